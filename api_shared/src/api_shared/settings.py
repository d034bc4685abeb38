"""The settings of a process, read once at its start from the environment and `.env`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from yarl import URL

from api_shared.errors import ApiWorkersError
from api_shared.redaction import register_secret
from api_shared.tls import AMQP_OPTIONS, MONGODB_OPTIONS, REDIS_OPTIONS, with_options

CENTURY_S = 100 * 365 * 86_400.0
Seconds = Annotated[float, Field(gt=0, le=CENTURY_S, allow_inf_nan=False)]
MEGABYTE = 1024 * 1024
MOST_ARGUMENTS_BYTES = 8 * MEGABYTE
"""The highest value that MAX_ARGUMENTS_BYTES can have."""

MONGODB_NAME = re.compile(r"[^\s\x00/\\.\"$]+")
MOST_NAME_BYTES = 63


class InvalidSettings(ApiWorkersError):
    """
    Environment variables have values that cannot be used; each of `problems` names one of them.
    """

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
    rabbitmq_tls_ca_file: str | None = Field(
        None,
        description="PEM; the CA that signed its certificate, where the system does not know it.",
    )
    rabbitmq_tls_cert_file: str | None = Field(
        None, description="PEM; our certificate and its key, where the server asks for one."
    )
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
    mongodb_tls_ca_file: str | None = Field(
        None,
        description="PEM; the CA that signed its certificate, where the system does not know it.",
    )
    mongodb_tls_cert_file: str | None = Field(
        None, description="PEM; our certificate and its key, where the server asks for one."
    )
    database_name: str = "api_workers"

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    redis_tls_ca_file: str | None = Field(
        None,
        description="PEM; the CA that signed its certificate, where the system does not know it.",
    )
    redis_tls_cert_file: str | None = Field(
        None, description="PEM; our certificate and its key, where the server asks for one."
    )
    redis_prefix: str = Field("api_workers", min_length=1, description="Of all keys and channels.")
    result_ttl_s: Seconds = Field(86_400, description="How long Redis keeps a taskiq result.")

    text_ttl_s: Seconds = Field(
        3600, description="How long Redis keeps a job's streamed text after its last piece."
    )

    storage_url: str = Field("file:./storage", description="Where tasks keep their files.")

    llm_backend: Literal["extractive", "openai", "llamacpp", "vllm"] | None = Field(
        None,
        description="Unset: openai (any compatible server) with a server URL, else extractive.",
    )
    llm_server_url: SecretStr | None = Field(
        None, description="Of the model server, with or without /v1 at its end."
    )
    llm_model: str | None = Field(None, description="Unset: the first one the server lists.")
    llm_api_key: SecretStr | None = None
    llm_image_server_url: SecretStr | None = Field(None, description="Unset: LLM_SERVER_URL.")
    llm_image_model: str | None = None
    llm_speech_server_url: SecretStr | None = Field(None, description="Unset: LLM_SERVER_URL.")
    llm_speech_model: str | None = None
    llm_temperature: float | None = Field(None, ge=0, le=2)
    llm_top_p: float | None = Field(None, gt=0, le=1)
    llm_max_tokens: int | None = Field(None, ge=1)
    llm_seed: int | None = Field(None, ge=0, lt=2**31)
    llm_stop: tuple[str, ...] = Field((), max_length=4, description="A JSON list of texts.")
    llm_json_tries: int = Field(3, ge=1, le=10, description="For output that is cut or invalid.")
    llm_max_in_flight: int = Field(
        8, ge=1, le=10_000, description="Calls of a server at a time, over all workers."
    )
    llm_requests_per_minute: int | None = Field(
        None, ge=1, description="Of a server, over all workers, evenly spread; unset: no limit."
    )
    llm_patience_s: float = Field(
        2, ge=0, le=60, description="How long a call waits for its turn before its job snoozes."
    )
    llm_max_retry_after_s: Seconds = Field(
        600, description="The longest that a server's Retry-After is heeded."
    )
    llm_connect_timeout_s: Seconds = 5
    llm_first_token_timeout_s: Seconds = 120
    llm_stall_timeout_s: Seconds = Field(30, description="Between two tokens.")
    llm_timeout_s: Seconds = Field(600, description="Of a whole call.")

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
    drain_s: float = Field(
        30, ge=0, le=CENTURY_S, description="How long a stopping worker lets jobs finish."
    )
    dispatch_every_s: Seconds = Field(0.5, description="How often the dispatcher looks.")
    republish_after_s: Seconds = Field(30, description="When a queued job is looked after.")

    kiq_deadline_s: Seconds = Field(10, description="For the ledger's answer to a kiq.")
    publish_deadline_s: Seconds = Field(5, description="For RabbitMQ's confirm.")
    connect_deadline_s: Seconds = Field(5, description="For a first connection at start.")

    health_check_url: HttpUrl | None = Field(
        None, description="What health_check asks every ten minutes; empty: it does not."
    )

    retention_s: Seconds = Field(7 * 86_400, description="How long an ended job is kept.")
    max_arguments_bytes: int = Field(MEGABYTE, ge=1024, le=MOST_ARGUMENTS_BYTES)
    max_result_bytes: int = Field(MEGABYTE, ge=1024, le=8 * MEGABYTE)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    @field_validator("rabbitmq_url")
    @classmethod
    def _check_rabbitmq_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_amqp(value.get_secret_value()):
            raise ValueError("must be a URL like amqp://user:password@host:5672/vhost")
        return value

    @field_validator("database_name")
    @classmethod
    def _check_database_name(cls, value: str) -> str:
        if not MONGODB_NAME.fullmatch(value) or len(value.encode()) > MOST_NAME_BYTES:
            raise ValueError(
                "must be the name of a MongoDB database: "
                f'at most {MOST_NAME_BYTES} bytes, without blanks and without / \\ . " $'
            )
        return value

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

    @model_validator(mode="after")
    def _check_llm(self) -> Settings:
        if self.llm_backend not in (None, "extractive") and self.llm_server_url is None:
            raise ValueError(f"LLM_BACKEND={self.llm_backend} needs LLM_SERVER_URL")
        for name in ("llm_server_url", "llm_image_server_url", "llm_speech_server_url"):
            url: SecretStr | None = getattr(self, name)
            if url is not None and not url.get_secret_value().startswith(("http://", "https://")):
                raise ValueError(f"{name.upper()} must be a URL with http:// or https://")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Settings:
        for server, url, scheme in (
            ("rabbitmq", self.rabbitmq_url, "amqps"),
            ("redis", self.redis_url, "rediss"),
            ("mongodb", None, ""),  # its scheme is the same with TLS
        ):
            for name, file in self._tls_files(server).items():
                variable = f"{server}_tls_{name}".upper()
                if not Path(file).is_file():
                    raise ValueError(f"{variable}: there is no file {file!r}")
                if url is not None and not url.get_secret_value().startswith(f"{scheme}://"):
                    raise ValueError(f"{variable} needs {server.upper()}_URL with {scheme}://")
        return self

    def _tls_files(self, server: str) -> dict[str, str]:
        files = {name: getattr(self, f"{server}_tls_{name}") for name in ("ca_file", "cert_file")}
        return {name: file for name, file in files.items() if file is not None}

    def _tls_options(self, server: str, names: Mapping[str, str]) -> dict[str, str]:
        return {names[name]: file for name, file in self._tls_files(server).items()}

    @model_validator(mode="after")
    def _hide_secrets(self) -> Settings:
        """
        Register the secrets, so that no error text and no log line of this process shows them.
        """
        values = (getattr(self, name) for name in type(self).model_fields)
        secrets = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        register_secret([*secrets, self.rabbitmq_management_url, self.storage_url])
        return self

    @cached_property
    def amqp_url(self) -> str:
        """The AMQP URL with its password: for connecting, never for logging."""
        options = self._tls_options("rabbitmq", AMQP_OPTIONS)
        if self.rabbitmq_url is not None:
            return with_options(self.rabbitmq_url.get_secret_value(), options)
        user = quote(self.rabbitmq_username, safe="")
        password = quote(self.rabbitmq_password.get_secret_value(), safe="")
        vhost = quote(self.rabbitmq_vhost, safe="")
        scheme = "amqps" if options else "amqp"
        host = f"{self.rabbitmq_host}:{self.rabbitmq_port}"
        return with_options(f"{scheme}://{user}:{password}@{host}/{vhost}", options)

    @cached_property
    def mongodb_address(self) -> str:
        """MONGODB_URL with its TLS files: for connecting, never for logging."""
        options = self._tls_options("mongodb", MONGODB_OPTIONS)
        if options:
            options = {"tls": "true", **options}
        return with_options(self.mongodb_url.get_secret_value(), options)

    @cached_property
    def redis_address(self) -> str:
        """REDIS_URL with its TLS files: for connecting, never for logging."""
        options = self._tls_options("redis", REDIS_OPTIONS)
        return with_options(self.redis_url.get_secret_value(), options)


def _is_amqp(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in ("amqp", "amqps") and bool(url.host)


def load_settings() -> Settings:
    """
    Read the environment.

    Raises `InvalidSettings` with the name of each variable whose value cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettings(
            [
                _problem_text(problem["loc"], problem["msg"])
                for problem in error.errors(include_input=False, include_url=False)
            ]
        ) from None


def _problem_text(location: Sequence[int | str], message: str) -> str:
    """A problem with the name of its variable, which checks of several variables say themselves."""
    text = message.removeprefix("Value error, ")
    name = "_".join(map(str, location)).upper()
    return f"{name}: {text}" if name else text
