"""
What a writer asks of the ledger: each a guarded operation that can be sent again.

An operation says its change, and reads its verdict off the job's record: sending it a second time
changes nothing, and a writer that lost the answer learns what came of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from api_shared.job import Job, JobError, Progress, Status
from api_shared.ledger.change import NOW, Below, Change, NowPlus, Plus, PlusEach
from api_shared.ledger.unique_keys import AT_CLAIM, AT_COMPLETION, expiry

V_co = TypeVar("V_co", covariant=True)


class Operation(ABC, Generic[V_co]):
    """`V_co` is the verdict: what the writer is told."""

    change: Change

    @property
    def if_matched(self) -> V_co | None:
        """The verdict when the ledger says that the guard matched; None: read the record back."""
        return None

    @abstractmethod
    def verdict(self, job: Job | None) -> V_co:
        """The verdict from the record as it stands after the write (None: there is no record)."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """
    The job is in the ledger; `by_us` False: it had been accepted before, `job` is how it is.

    Another id than the insert's: `job` holds the unique key, and nothing was inserted.
    """

    by_us: bool
    job: Job


@dataclass(frozen=True)
class Insert(Operation[Inserted]):
    """
    Record a new job (`job`: its static fields; times and history are the ledger's).

    `unique_for_s` is how long the ledger's clock lets it hold its key, for the scope "period".
    """

    job: Job
    due: NowPlus | datetime
    unique_for_s: float | None = None
    change: Change = field(init=False)

    def __post_init__(self) -> None:
        put: dict[str, Any] = {"accepted_at": NOW, "due_at": self.due}
        if self.job.status is Status.QUEUED:
            put["queued_at"] = NOW
        if self.unique_for_s is not None:
            put["unique_until"] = NowPlus(self.unique_for_s)
        change = Change(self.job.id, guard={}, put=put, note="")
        object.__setattr__(self, "change", change)

    def verdict(self, job: Job | None) -> Inserted:
        if job is None:
            raise LookupError(f"job {self.job.id} vanished between its insert and its read-back")
        ours = bool(job.history) and job.history[0].change_id == self.change.change_id
        return Inserted(by_us=ours, job=job)


@dataclass(frozen=True, slots=True)
class Claimed:
    job: Job


@dataclass(frozen=True, slots=True)
class Refused:
    """The job was not there to be claimed; `job` is how it stands, None: no record."""

    job: Job | None


@dataclass(frozen=True)
class Claim(Operation[Claimed | Refused]):
    """Take a queued job: from here on only the holder of `token` writes."""

    job_id: str
    token: str
    worker: str
    lease_s: float
    change: Change = field(init=False)

    def __post_init__(self) -> None:
        change = Change(
            self.job_id,
            guard={"status": Status.QUEUED},
            put={
                "status": Status.PROCESSING,
                "token": self.token,
                "worker": self.worker,
                "claim_no": Plus(1),
                "last_chance": False,
                "seq": Plus(1),
                "started_at": NOW,
                "due_at": NowPlus(self.lease_s),
                **AT_CLAIM,
            },
            remove=("progress",),
            note="",
        )
        object.__setattr__(self, "change", change)

    def verdict(self, job: Job | None) -> Claimed | Refused:
        if job is not None and job.token == self.token and job.status is Status.PROCESSING:
            return Claimed(job)
        return Refused(job)


@dataclass(frozen=True)
class FencedWrite(Operation[bool]):
    """
    A write of the claim's holder, numbered by it: `seq` counts up from the claim's own.

    The verdict is False when the claim is gone; then nothing was written.
    """

    job_id: str
    token: str
    seq: int
    change: Change = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "change", self._change())

    @abstractmethod
    def _change(self) -> Change: ...

    @property
    def guard(self) -> dict[str, object]:
        return {"token": self.token, "status": Status.PROCESSING, "seq": Below(self.seq)}

    @property
    def _unless_cancelled(self) -> dict[str, object]:
        """For a write after which nobody holds the job: the flag would be nobody's to honour."""
        return {**self.guard, "cancel_requested": False}

    @property
    def if_matched(self) -> bool | None:
        return True


@dataclass(frozen=True)
class SaveProgress(FencedWrite):
    progress: Progress

    def _change(self) -> Change:
        return Change(self.job_id, self.guard, {"seq": self.seq, "progress": self.progress})

    def verdict(self, job: Job | None) -> bool:
        return job is not None and job.token == self.token and job.seq >= self.seq


@dataclass(frozen=True)
class SaveJournal(FencedWrite):
    """
    Keep `value_json` under `key`: what a body that runs again finds there.

    `usage` is added to the job's in the same write, so that it counts once, as the entry does.
    """

    key: str
    value_json: str
    usage: Mapping[str, int] = field(default_factory=dict)

    def _change(self) -> Change:
        put: dict[str, Any] = {"seq": self.seq, "journal": {self.key: self.value_json}}
        if self.usage:
            put["usage"] = PlusEach(self.usage)
        return Change(self.job_id, self.guard, put)

    def verdict(self, job: Job | None) -> bool:
        return (
            job is not None
            and job.token == self.token
            and job.journal.get(self.key) == self.value_json
        )


@dataclass(frozen=True)
class TakeLastChance(FencedWrite):
    """From here on a loss of this claim is one too many."""

    def _change(self) -> Change:
        return Change(self.job_id, self.guard, {"seq": self.seq, "last_chance": True})

    def verdict(self, job: Job | None) -> bool:
        return job is not None and job.token == self.token and job.last_chance


@dataclass(frozen=True)
class _Settlement(FencedWrite):
    """The write that ends a claim; its line in the history is the proof that it was applied."""

    def verdict(self, job: Job | None) -> bool:
        return job is not None and any(
            entry.change_id == self.change.change_id for entry in job.history
        )


@dataclass(frozen=True)
class Complete(_Settlement):
    result_json: str
    retention_s: float
    streamed: bool = False

    def _change(self) -> Change:
        return Change(
            self.job_id,
            self.guard,
            {
                "status": Status.COMPLETED,
                "seq": self.seq,
                "result_json": self.result_json,
                "streamed": self.streamed,
                "ended_at": NOW,
                "expires_at": expiry(self.retention_s),
                **AT_COMPLETION,
            },
            remove=("due_at", "error"),
            note="",
        )


@dataclass(frozen=True)
class Fail(_Settlement):
    """For good: `due_at` stays until the dead letter is confirmed (`transitions.dead_lettered`)."""

    error: JobError
    dead_letter_in_s: float

    def _change(self) -> Change:
        return Change(
            self.job_id,
            self.guard,
            {
                "status": Status.FAILED,
                "seq": self.seq,
                "error": self.error,
                "attempt": Plus(1),
                "ended_at": NOW,
                "due_at": NowPlus(self.dead_letter_in_s),
            },
            remove=("unique_held",),
            note=self.error.reason,
        )


@dataclass(frozen=True)
class Retry(_Settlement):
    """The attempt failed; the next one starts in `delay_s`. Refused if a cancel was asked for."""

    error: JobError
    delay_s: float

    def _change(self) -> Change:
        return Change(
            self.job_id,
            self._unless_cancelled,
            {
                "status": Status.RETRYING,
                "seq": self.seq,
                "error": self.error,
                "attempt": Plus(1),
                "due_at": NowPlus(self.delay_s),
            },
            note=self.error.reason,
        )


@dataclass(frozen=True)
class Release(_Settlement):
    """
    Run it again in `delay_s`, no attempt counted: a snooze, or a worker that stops. Refused if a
    cancel was asked for.
    """

    delay_s: float
    why: str

    def _change(self) -> Change:
        return Change(
            self.job_id,
            self._unless_cancelled,
            {"status": Status.RETRYING, "seq": self.seq, "due_at": NowPlus(self.delay_s)},
            note=self.why,
        )


@dataclass(frozen=True)
class Cancel(_Settlement):
    retention_s: float

    def _change(self) -> Change:
        return Change(
            self.job_id,
            self.guard,
            {
                "status": Status.CANCELLED,
                "seq": self.seq,
                "ended_at": NOW,
                "expires_at": expiry(self.retention_s),
            },
            remove=("due_at", "unique_held"),
            note="",
        )
