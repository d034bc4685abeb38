"""
The operations of writers on the ledger: guarded changes that can be sent again.

An operation has a change, and reads its verdict from the job's record. Sending it a second time
changes nothing, and a writer that lost the answer gets the verdict.
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
    """An operation; `V_co` is the type of its verdict, which the writer gets."""

    change: Change

    @property
    def if_matched(self) -> V_co | None:
        """The verdict if the guard matched. None: it has to be read from the record."""
        return None

    @abstractmethod
    def verdict(self, job: Job | None) -> V_co:
        """The verdict from the record after the write (None: there is no record)."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """
    The job is in the ledger. `by_us` False: it was accepted before. `job` is its present state.

    If `job` has another id than the insert, it holds the unique key, and nothing was inserted.
    """

    by_us: bool
    job: Job


@dataclass(frozen=True)
class Insert(Operation[Inserted]):
    """
    Record a new job (`job`: its static fields; times and history are the ledger's).

    `unique_for_s` is how long the job holds its key by the ledger's clock, for the scope "period".
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
    """The job could not be claimed. `job` is its present state; None: there is no record."""

    job: Job | None


@dataclass(frozen=True)
class Claim(Operation[Claimed | Refused]):
    """Take a queued job. From now on only the holder of `token` can write it."""

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
    A write of the claim's holder. `seq` numbers its writes, counting up from that of the claim.

    The verdict is False if the claim was lost: nothing was written.
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
        """
        The guard of a write after which no worker holds the job: none could obey a cancel request.
        """
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
    Store `value_json` under `key`, where a body that runs again finds it.

    `usage` is added to that of the job in the same write, so that it counts once, like the entry.
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
    """Note the last chance: if this claim is lost, the job has failed."""

    def _change(self) -> Change:
        return Change(self.job_id, self.guard, {"seq": self.seq, "last_chance": True})

    def verdict(self, job: Job | None) -> bool:
        return job is not None and job.token == self.token and job.last_chance


@dataclass(frozen=True)
class _Settlement(FencedWrite):
    """The write that ends a claim. Its entry in the history proves that it was applied."""

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
    """The job has failed for good. `due_at` stays until its dead letter is confirmed."""

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
    """The attempt failed; the next one starts in `delay_s`. Refused if a cancel was requested."""

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
    Let the job run again in `delay_s`, after a snooze or when its worker stops. No attempt is
    counted. Refused if a cancel was requested.
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
