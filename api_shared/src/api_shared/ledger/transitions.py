"""
What everybody but the holder of a claim may change: guarded by the job as it was just read.

`seq` in the guard makes each of these a compare-and-set: of ten dispatchers one gets the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api_shared.job import SLEEPING, WAITING, Job, JobError, Reason, Status
from api_shared.ledger.change import NOW, Change, NowPlus, OneOf, Plus
from api_shared.ledger.unique_keys import expiry, held_again


def publish_due(job: Job, *, republish_after_s: float) -> Change:
    """A scheduled or retrying job whose time has come is queued; the caller then publishes it."""
    return Change(
        job.id,
        _as_read(job),
        {
            "status": Status.QUEUED,
            "seq": Plus(1),
            "queued_at": NOW,
            "looks": 0,
            "due_at": NowPlus(republish_after_s),
        },
        note="",
    )


def reschedule(job_id: str, due: NowPlus | datetime) -> Change:
    """A job that waits for its time gets another one."""
    guard = {"status": OneOf(SLEEPING)}
    return Change(job_id, guard, {"seq": Plus(1), "due_at": due}, note="rescheduled")


def defer_check(job: Job, *, in_s: float) -> Change:
    """A queued job is looked after, by one; the next look is in `in_s`, ever more rarely."""
    guard = {**_as_read(job), "looks": job.looks}
    return Change(job.id, guard, {"looks": Plus(1), "due_at": NowPlus(in_s)})


def reroute(job: Job, *, queue: str) -> Change:
    """The job goes to another queue; what is due of it stays so."""
    return Change(job.id, _as_read(job), {"queue": queue})


def rescue(
    job: Job, *, max_lost: int, retry_in_s: float, republish_after_s: float, retention_s: float
) -> Change:
    """
    A claim whose lease has run out ends: cancelled if that was asked, failed after `max_lost`
    crashes, else queued again; from the second crash on it waits `retry_in_s` first. The crash that
    fails a job must have come in its last chance: one before that was another job's.
    """
    is_innocent = needs_last_chance(job, max_lost=max_lost) and not job.last_chance
    lost = job.lost if is_innocent else job.lost + 1
    put: dict[str, Any] = {"seq": Plus(1), "lost": lost}
    if job.cancel_requested:
        put |= _ended(Status.CANCELLED) | {"expires_at": expiry(retention_s)}
        remove: tuple[str, ...] = ("token", "due_at", "unique_held")
    elif lost >= max_lost:
        message = f"its worker was lost {lost} times while it ran"
        put |= _ended(Status.FAILED) | {
            "error": JobError(Reason.LOST, "WorkerLost", message),
            "due_at": NOW,
        }
        remove = ("token", "unique_held")
    elif lost == 1:
        put |= {
            "status": Status.QUEUED,
            "queued_at": NOW,
            "looks": 0,
            "due_at": NowPlus(republish_after_s),
        }
        remove = ("token",)
    else:
        put |= {"status": Status.RETRYING, "due_at": NowPlus(retry_in_s)}
        remove = ("token",)
    guard = {**_as_read(job), "due_at": NOW, "cancel_requested": job.cancel_requested}
    return Change(job.id, guard, put, remove, note=Reason.LOST)


def needs_last_chance(job: Job, *, max_lost: int) -> bool:
    """Whether one more loss would fail a job that was lost before."""
    return job.lost >= max(1, max_lost - 1)


def begin_dead_lettering(job: Job, *, again_in_s: float) -> Change:
    """Take the right to dead-letter a failed job, and for `again_in_s` nobody else has it."""
    return Change(job.id, {**_as_read(job), "due_at": NOW}, {"due_at": NowPlus(again_in_s)})


def dead_lettered(job: Job, *, retention_s: float) -> Change:
    """The dead letter is confirmed: nothing is left to do for this job."""
    return Change(
        job.id,
        _as_read(job),
        {"failure_told": True, "expires_at": expiry(retention_s)},
        remove=("due_at",),
    )


def requeue(
    job: Job, *, republish_after_s: float, note: str, forget_journal: bool = False
) -> Change:
    """
    A failed job begins its next round: queued, with fresh attempts; the caller then publishes it.
    It keeps its history and, unless that is to be forgotten, its journal; its unique key it takes
    again, or is refused (`UniqueTaken`).
    """
    return Change(
        job.id,
        {**_as_read(job), "round": job.round},
        {
            "status": Status.QUEUED,
            "seq": Plus(1),
            "round": Plus(1),
            "attempt": 0,
            "lost": 0,
            "looks": 0,
            "failure_told": False,
            "cancel_requested": False,
            "queued_at": NOW,
            "due_at": NowPlus(republish_after_s),
            **held_again(job),
        },
        remove=(
            *("expires_at", "ended_at", "started_at", "token", "worker", "progress", "error"),
            *(("journal",) if forget_journal else ()),
        ),
        note=note,
    )


def fail_queued(job: Job, error: JobError) -> Change:
    """A queued job that no worker can run (its arguments do not validate, say) fails for good."""
    return Change(
        job.id,
        _as_read(job),
        {"seq": Plus(1), **_ended(Status.FAILED), "error": error, "due_at": NOW},
        remove=("unique_held",),
        note=error.reason,
    )


def cancel_waiting(job_id: str, *, retention_s: float) -> Change:
    """A job that no worker holds ends at once."""
    return Change(
        job_id,
        {"status": OneOf(WAITING)},
        {"seq": Plus(1), **_ended(Status.CANCELLED), "expires_at": expiry(retention_s)},
        remove=("due_at", "unique_held"),
        note="",
    )


def request_cancel(job_id: str) -> Change:
    """A running job is asked to stop: its holder honours the flag."""
    return Change(job_id, {"status": Status.PROCESSING}, {"cancel_requested": True})


def count_late_write(job_id: str) -> Change:
    """Note that a write was refused because its claim was gone; whatever the job is now."""
    return Change(job_id, {}, {"late_writes": Plus(1)})


def _as_read(job: Job) -> Mapping[str, Any]:
    return {"status": job.status, "seq": job.seq}


def _ended(status: Status) -> dict[str, Any]:
    return {"status": status, "ended_at": NOW}
