"""The notifier: tells whoever listens what becomes of jobs, live. It may be gone at any time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from api_shared.job import SLEEPING, Job, Progress, Status
from api_shared.notifier.text import Outgoing, Written

EVENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class JobEvent:
    """
    One change of a job. `seq` orders the events of a job; a status event is seen once.

    Of a job that waits for a time `due_at` says it, and `why` what it waits for, if that is known.
    """

    kind: Literal["status", "progress"]
    job_id: str
    seq: int
    status: Status
    task: str
    queue: str
    owner: str | None = None
    correlation_id: str | None = None
    attempt: int = 0
    at: datetime | None = None
    progress: Progress | None = None
    error: str | None = None
    due_at: datetime | None = None
    why: str | None = None

    def to_json(self) -> str:
        progress = self.progress
        fields = {
            "v": EVENT_VERSION,
            "kind": self.kind,
            "job_id": self.job_id,
            "seq": self.seq,
            "status": self.status,
            "task": self.task,
            "queue": self.queue,
            "owner": self.owner,
            "correlation_id": self.correlation_id,
            "attempt": self.attempt,
            "at": self.at.isoformat() if self.at else None,
            "progress": asdict(progress) if progress else None,
            "error": self.error,
            "due_at": self.due_at.isoformat() if self.due_at else None,
            "why": self.why,
        }
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> JobEvent:
        """
        Raises `ValueError` for anything but an event of a version we know.

        Fields that a newer release added are passed over.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            if fields["v"] != EVENT_VERSION or fields["kind"] not in ("status", "progress"):
                raise ValueError("an event of another version")
            if not isinstance(fields["job_id"], str) or type(fields["seq"]) is not int:
                raise ValueError("an event that names no job or has no number")
            at, due_at, progress = (fields.get(name) for name in ("at", "due_at", "progress"))
            known = {name: fields[name] for name in cls.__slots__ if name in fields}
            return cls(
                **known
                | {
                    "status": Status(fields["status"]),
                    "at": datetime.fromisoformat(at) if at else None,
                    "due_at": datetime.fromisoformat(due_at) if due_at else None,
                    "progress": Progress(**progress) if progress else None,
                }
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a job event: {error!r}") from error


def status_event(job: Job) -> JobEvent:
    """The event that says where `job` stands now."""
    return JobEvent(
        kind="status",
        job_id=job.id,
        seq=job.seq,
        status=job.status,
        task=job.task,
        queue=job.queue,
        owner=job.owner,
        correlation_id=job.correlation_id,
        attempt=job.attempt,
        at=job.history[-1].at if job.history else None,
        error=f"{job.error.reason}: {job.error.message}" if job.error else None,
        due_at=job.due_at if job.status in SLEEPING else None,
        why=job.waits_for,
    )


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A taskiq result on its way to Redis: the key's suffix is the job id."""

    job_id: str
    value: bytes


class Subscription(Protocol):
    """Messages of the channels subscribed to; ends never by itself."""

    def __aiter__(self) -> AsyncIterator[JobEvent]: ...

    async def next(self, timeout_s: float) -> JobEvent | None:
        """The next event, or None after `timeout_s` or when the connection was lost meanwhile."""


class TextSubscription(Protocol):
    """What one job writes, from the first character that Redis still has."""

    async def next(self, timeout_s: float) -> list[Written]:
        """
        What can be read now and was not yet, in order; waits for news up to `timeout_s`, but not
        the first time. Empty where there is none, or Redis is away.
        """

    def wake(self) -> None:
        """End the wait of `next`."""


class Notifier(Protocol):
    """Publishing never raises and never waits for Redis: what cannot be told is dropped."""

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Tell what is still to be told, within a second, then close."""

    def tell(self, event: JobEvent, result: StoredResult | None = None) -> None:
        """Publish to the job's, its owner's and the common channel; store the result with it."""

    def ask_cancel(self, job_id: str) -> None:
        """Tell the workers at once that the ledger holds a request to cancel."""

    def subscribe(
        self, *, job_id: str | None = None, owner: str | None = None
    ) -> AbstractAsyncContextManager[Subscription]:
        """Events of one job, of one owner, or (neither given) of all; never raises for Redis."""

    def cancel_requests(self) -> AsyncIterator[str]:
        """Job ids that somebody asked to cancel; goes on by itself after a lost connection."""

    def tell_text(self, outgoing: Outgoing) -> None:
        """Let listeners read, soon, all that `outgoing` holds; again, after an outage."""

    def follow_text(self, job_id: str) -> AbstractAsyncContextManager[TextSubscription]:
        """
        What the claim with the highest number has written, of those that have; never raises for
        Redis.
        """

    async def load_result(self, job_id: str) -> bytes | None:
        """The stored taskiq result; None where Redis has none or is away."""

    async def server_version(self) -> str:
        """For people; raises `ServerError`."""
