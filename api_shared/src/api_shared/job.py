"""A job as the ledger stores it: its status, errors, progress and history."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bson import ObjectId

from api_shared.errors import InvalidJobId
from api_shared.redaction import redact


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
SLEEPING = frozenset({Status.SCHEDULED, Status.RETRYING})
"""The statuses of a job that waits for its time, in no queue."""
WAITING = SLEEPING | {Status.QUEUED}


class UniqueScope(StrEnum):
    """The time for which a job holds its unique key: to its claim, to its end, or for a period."""

    WAITING = "waiting"
    OPEN = "open"
    PERIOD = "period"


class Reason(StrEnum):
    """
    The reason why a job failed or a message was dead-lettered. Wire names: they never change.

    A reason that only a newer release knows is kept as it is in the record.
    """

    UNREADABLE = "unreadable"
    UNKNOWN_TASK = "unknown_task"
    INVALID_JOB_ID = "invalid_job_id"
    INVALID_ARGUMENTS = "invalid_arguments"
    TOO_LARGE = "too_large"
    UNROUTABLE = "unroutable"
    FORGOTTEN = "forgotten"
    ERROR = "error"
    PERMANENT_ERROR = "permanent_error"
    DISCARDED = "discarded"
    INVALID_RESULT = "invalid_result"
    TIME_LIMIT = "time_limit"
    LOST = "lost"
    UNIQUE_TAKEN = "unique_taken"

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_, unknown._value_ = value.upper(), value
        return unknown


@dataclass(frozen=True, slots=True)
class JobError:
    """
    The error of the last attempt. `traceback` is bounded text without arguments.

    Many people can read it, so recognisable secrets are redacted whenever one is made.
    """

    reason: Reason
    type: str
    message: str
    traceback: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(self.message))
        object.__setattr__(self, "traceback", redact(self.traceback))


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a body: `done` of `total` (None: unknown) in a named `stage`."""

    done: float
    total: float | None = None
    stage: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of status in a job's history. `change_id` names the write itself."""

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

    Times are aware, in UTC, from the ledger's clock. `args_json`, `result_json` and the values of
    the journal are JSON text: all JSON values survive, and none can make a batch fail. `usage` is
    the usage of all its runs, by name. `late_writes` counts the refused writes of workers that had
    lost their claim. `last_chance`: the job has failed if its present claim is lost too.
    `unique_held` is True while no other job of the task may have this `unique_key`, otherwise None;
    `unique_until` is only set for a period. `streamed`: the run that completed it wrote text.
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
    unique_key: str | None = None
    unique_scope: UniqueScope | None = None
    unique_until: datetime | None = None
    unique_held: bool | None = None
    round: int = 1
    claim_no: int = 0
    token: str | None = None
    worker: str | None = None
    attempt: int = 0
    lost: int = 0
    last_chance: bool = False
    looks: int = 0
    late_writes: int = 0
    due_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    keep_until: datetime | None = None
    cancel_requested: bool = False
    failure_told: bool = False
    streamed: bool = False
    progress: Progress | None = None
    result_json: str | None = None
    error: JobError | None = None
    history: tuple[Entry, ...] = ()
    journal: dict[str, str] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def is_asleep(self) -> bool:
        """Whether the job waits for its time, in no queue."""
        return self.status in SLEEPING

    @property
    def args(self) -> dict[str, Any]:
        """The arguments by name, as JSON values."""
        return dict(json.loads(self.args_json))

    @property
    def result(self) -> Any:
        """The result as JSON values; None until the job is completed."""
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def waits_for(self) -> str | None:
        """What a job that was released waits for, by the text of its snooze or release."""
        if self.status is not Status.RETRYING or not self.history:
            return None
        note = self.history[-1].note
        return None if self.error is not None and note == self.error.reason else note or None


def new_job_id() -> str:
    return str(ObjectId())


def parse_job_id(value: object) -> str:
    """The id in lower case; raises `InvalidJobId` for anything but an ObjectId or its hex."""
    if isinstance(value, ObjectId):
        return str(value)
    if not isinstance(value, str) or not ObjectId.is_valid(value):
        raise InvalidJobId(value)
    return str(ObjectId(value))
