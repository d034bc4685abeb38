"""Job events, and the results that travel with them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from api_shared.job import SLEEPING, Job, Progress, Status

EVENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class JobEvent:
    """
    One change of a job. `seq` orders the events of a job; a status event is seen once.

    If the job waits for a time, `due_at` is that time, and `why` what it waits for, if known.
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
        Raises `ValueError` unless `text` is an event of a known version.

        Fields that a newer release added are ignored.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            if fields["v"] != EVENT_VERSION or fields["kind"] not in ("status", "progress"):
                raise ValueError("an event of another version")
            if not isinstance(fields["job_id"], str) or type(fields["seq"]) is not int:
                raise ValueError("an event without a job or without a number")
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
    """The event of the present status of `job`."""
    event = _event_of(job, kind="status", at=job.history[-1].at if job.history else None)
    if job.error is not None:
        event = replace(event, error=f"{job.error.reason}: {job.error.message}")
    if job.status in SLEEPING:
        event = replace(event, due_at=job.due_at)
    return replace(event, why=job.waits_for)


def progress_event(job: Job, progress: Progress, *, seq: int) -> JobEvent:
    """The event of the progress of `job`; `seq` is the number of the progress."""
    event = _event_of(job, kind="progress", at=datetime.now(UTC))
    return replace(event, seq=seq, progress=progress)


def _event_of(job: Job, *, kind: Literal["status", "progress"], at: datetime | None) -> JobEvent:
    """An event of `job`. All events of jobs are made here."""
    return JobEvent(
        kind=kind,
        job_id=job.id,
        seq=job.seq,
        status=job.status,
        task=job.task,
        queue=job.queue,
        owner=job.owner,
        correlation_id=job.correlation_id,
        attempt=job.attempt,
        at=at,
    )


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A taskiq result to be stored in Redis. The suffix of its key is the job id."""

    job_id: str
    value: bytes
