"""The door: how a submission finds the started broker of its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from taskiq.message import TaskiqMessage

from api_shared.client.unique import UniqueFor
from api_shared.errors import NotStarted
from api_shared.job import new_job_id

if TYPE_CHECKING:
    from api_shared.client.contract import Contract

A = TypeVar("A", bound=BaseModel)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Submission(Generic[A, R]):
    """One request to run a job, before it is validated."""

    contract: Contract[A, R]
    args: A
    priority: int = 0
    owner: str | None = None
    correlation_id: str | None = None
    job_id: str | None = None
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    delay: timedelta | None = None
    at: datetime | None = None
    unique_key: str | None = None
    unique_for: UniqueFor | None = None

    def as_message(self) -> TaskiqMessage:
        """As taskiq's middlewares want to see it."""
        unique_for = self.unique_for
        if isinstance(unique_for, timedelta):
            unique_for_text: str | None = str(unique_for.total_seconds())
        else:
            unique_for_text = unique_for
        options = {
            "priority": str(self.priority),
            "owner": self.owner,
            "correlation_id": self.correlation_id,
            "queue_name": self.queue,
            "delay": None if self.delay is None else str(self.delay.total_seconds()),
            "at": None if self.at is None else self.at.isoformat(),
            "unique_key": self.unique_key,
            "unique_for": unique_for_text,
        }
        labels = {name: value for name, value in options.items() if value is not None}
        return TaskiqMessage(
            task_id=self.job_id or new_job_id(),
            task_name=self.contract.name,
            labels={**self.labels, **labels},
            args=[],
            kwargs=dict(self.args),
        )


class Enqueuer(Protocol):
    """The one way in: a broker."""

    @property
    def runtime(self) -> Any: ...

    async def submit(self, submission: Submission[Any, Any]) -> Any: ...


started: dict[str, Enqueuer] = {}
"""The started brokers of this process by name; each puts itself here, and takes itself away."""


def started_broker(broker: str) -> Enqueuer:
    if broker not in started:
        raise NotStarted(broker, started)
    return started[broker]
