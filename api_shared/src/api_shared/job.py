"""A job as the ledger knows it, and the words for where it stands."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bson import ObjectId

from api_shared.errors import InvalidJobId


class Status(StrEnum):
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
WAITING = frozenset({Status.SCHEDULED, Status.QUEUED, Status.RETRYING})


class Reason(StrEnum):
    """Why a job failed or a message was dead-lettered. Wire names: they never change."""

    UNREADABLE = "unreadable"
    UNKNOWN_TASK = "unknown_task"
    INVALID_JOB_ID = "invalid_job_id"
    INVALID_ARGUMENTS = "invalid_arguments"
    TOO_LARGE = "too_large"
    FORGOTTEN = "forgotten"
    ERROR = "error"
    PERMANENT_ERROR = "permanent_error"
    DISCARDED = "discarded"
    INVALID_RESULT = "invalid_result"
    TIME_LIMIT = "time_limit"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class JobError:
    """What went wrong in the last attempt. `traceback` is text, bounded, without arguments."""

    reason: Reason
    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a body is: `done` of `total` (None: unknown) in a named `stage`."""

    done: float
    total: float | None = None
    stage: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of status, as kept in a job's history. `change_id` names the write itself."""

    seq: int
    status: Status
    at: datetime
    change_id: str
    round: int = 1
    claim_no: int = 0
    worker: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """
    One document of the ledger.

    Times are aware, in UTC, from the ledger's clock. `args_json`, `result_json` and the journal's
    values are JSON text: whatever JSON can say survives, and no value can spoil a batch.
    """

    id: str
    task: str
    broker: str
    queue: str
    args_json: str
    status: Status
    seq: int
    accepted_at: datetime
    priority: int = 0
    owner: str | None = None
    correlation_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    round: int = 1
    claim_no: int = 0
    token: str | None = None
    worker: str | None = None
    attempt: int = 0
    lost: int = 0
    looks: int = 0
    due_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_requested: bool = False
    failure_told: bool = False
    progress: Progress | None = None
    result_json: str | None = None
    error: JobError | None = None
    history: tuple[Entry, ...] = ()
    journal: dict[str, str] = field(default_factory=dict)

    @property
    def args(self) -> dict[str, Any]:
        """The arguments by name, as JSON values."""
        return dict(json.loads(self.args_json))

    @property
    def result(self) -> Any:
        """The result as JSON values; None until the job is completed."""
        return None if self.result_json is None else json.loads(self.result_json)


def new_job_id() -> str:
    return str(ObjectId())


def parse_job_id(value: object) -> str:
    """The id in lower case; raises `InvalidJobId` for anything but an ObjectId or its hex."""
    if isinstance(value, ObjectId):
        return str(value)
    if not isinstance(value, str) or not ObjectId.is_valid(value):
        raise InvalidJobId(value)
    return str(ObjectId(value))
