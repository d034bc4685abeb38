"""The settings, read from the environment (and `.env`) once, where a process starts."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api_shared.errors import ApiWorkersError

Seconds = Annotated[float, Field(gt=0)]
MEGABYTE = 1024 * 1024
MOST_ARGUMENTS_BYTES = 8 * MEGABYTE
"""What MAX_ARGUMENTS_BYTES can be set to."""


class InvalidSettings(ApiWorkersError):
    """A variable of the environment has a value that cannot be used; each line names one."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("settings: " + "; ".join(problems))


class Settings(BaseSettings):
    """Each field is read from the variable of the same name in capitals; an empty one is unset."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    rabbitmq_url: SecretStr | None = Field(None, description="Whole AMQP URL; wins over the parts.")
    rabbitmq_host: str = "localhost"
    rabbitmq_port: int = Field(5672, ge=1, le=65535)
    rabbitmq_username: str = "guest"
    rabbitmq_password: SecretStr = SecretStr("guest")
    rabbitmq_vhost: str = "/"
    rabbitmq_management_url: str = Field(
        "http://localhost:15672", description="Where operators find the management UI."
    )
    rabbitmq_heartbeat_s: int = Field(10, ge=2, description="AMQP heartbeat, seconds.")

    taskiq_exchange: str = "taskiq"
    taskiq_queue: str = "taskiq"
    taskiq_routing_key: str = "taskiq"
    taskiq_ml_exchange: str = "taskiq_ml"
    taskiq_ml_queue: str = "taskiq_ml"
    taskiq_ml_routing_key: str = "taskiq_ml"

    mongodb_url: SecretStr = SecretStr("mongodb://localhost:27017/?directConnection=true")
    database_name: str = Field("api_workers", min_length=1)

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    redis_prefix: str = Field("api_workers", min_length=1, description="Of all keys and channels.")
    result_ttl_s: Seconds = Field(86_400, description="How long Redis keeps a taskiq result.")

    storage_url: str = Field("file:./storage", description="Where tasks keep their files.")

    task_max_retries: int = Field(3, ge=0, le=100)
    task_max_lost: int = Field(3, ge=1, le=100, description="Crashes after which a job fails.")
    task_soft_time_limit: Seconds = 90
    task_time_limit: Seconds = 120

    worker_queues: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated queues to consume; empty: all of the broker."
    )
    worker_prefetch: int = Field(50, ge=1, le=1000, description="Messages held for a free slot.")
    ml_worker_count: int = Field(2, ge=1, le=1024, description="CPU jobs at a time on a host.")
    lease_s: Seconds = Field(15, description="How long a claim holds without a heartbeat.")
    heartbeat_s: Seconds = 4
    drain_s: float = Field(30, ge=0, description="How long a stopping worker lets jobs finish.")
    dispatch_every_s: Seconds = Field(0.5, description="How often the dispatcher looks.")
    republish_after_s: Seconds = Field(30, description="When a queued job is looked after.")

    kiq_deadline_s: Seconds = Field(10, description="For the ledger's answer to a kiq.")
    publish_deadline_s: Seconds = Field(5, description="For RabbitMQ's confirm.")
    connect_deadline_s: Seconds = Field(5, description="For a first connection at start.")

    retention_s: Seconds = Field(7 * 86_400, description="How long an ended job is kept.")
    max_arguments_bytes: int = Field(MEGABYTE, ge=1024, le=MOST_ARGUMENTS_BYTES)
    max_result_bytes: int = Field(MEGABYTE, ge=1024, le=8 * MEGABYTE)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    @field_validator("worker_queues", mode="before")
    @classmethod
    def _split_queues(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_times(self) -> Settings:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("LEASE_S must be at least twice HEARTBEAT_S, or claims are lost")
        if self.task_soft_time_limit > self.task_time_limit:
            raise ValueError("TASK_SOFT_TIME_LIMIT must not be over TASK_TIME_LIMIT")
        return self

    @cached_property
    def amqp_url(self) -> str:
        """The AMQP URL with its password: for connecting, never for logging."""
        if self.rabbitmq_url is not None:
            return self.rabbitmq_url.get_secret_value()
        user = quote(self.rabbitmq_username, safe="")
        password = quote(self.rabbitmq_password.get_secret_value(), safe="")
        vhost = quote(self.rabbitmq_vhost, safe="")
        return f"amqp://{user}:{password}@{self.rabbitmq_host}:{self.rabbitmq_port}/{vhost}"


def load_settings() -> Settings:
    """
    Read the environment.

    Raises `InvalidSettings`, with the name of each variable that is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettings(
            [
                f"{'_'.join(str(part) for part in problem['loc']).upper() or 'values'}: "
                f"{problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
        ) from None
