"""
The changes of a job by others than its claim's holder, guarded by the job as it was just read.

`seq` in the guard makes each of them a compare-and-set: of ten dispatchers one gets the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api_shared.job import SLEEPING, WAITING, Job, JobError, Reason, Status
from api_shared.ledger.change import NOW, Change, NowPlus, OneOf, Plus
from api_shared.ledger.unique_keys import expiry, held_again


def publish_due(job: Job, *, republish_after_s: float) -> Change:
    """Queue a scheduled or retrying job whose time has come. The caller then publishes it."""
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
    """Give a job that waits for its time another time."""
    guard = {"status": OneOf(SLEEPING)}
    return Change(job_id, guard, {"seq": Plus(1), "due_at": due}, note="rescheduled")


def defer_check(job: Job, *, in_s: float) -> Change:
    """Take the right to check a queued job; the next check is in `in_s`."""
    guard = {**_as_read(job), "looks": job.looks}
    return Change(job.id, guard, {"looks": Plus(1), "due_at": NowPlus(in_s)})


def reroute(job: Job, *, queue: str) -> Change:
    """Move the job to another queue; its `due_at` stays."""
    return Change(job.id, _as_read(job), {"queue": queue})


def rescue(
    job: Job, *, max_lost: int, retry_in_s: float, republish_after_s: float, retention_s: float
) -> Change:
    """
    End a claim whose lease has run out.

    The job is cancelled if that was requested, failed after `max_lost` crashes, otherwise queued
    again; from its second crash on it waits `retry_in_s` first. Only a crash in its last chance can
    fail a job: an earlier one may have been the fault of another job.
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
    """Whether the next loss would fail this job, which was lost before."""
    return job.lost >= max(1, max_lost - 1)


def begin_dead_lettering(job: Job, *, again_in_s: float) -> Change:
    """Take the right to dead-letter a failed job, alone for `again_in_s`."""
    return Change(job.id, {**_as_read(job), "due_at": NOW}, {"due_at": NowPlus(again_in_s)})


def dead_lettered(job: Job, *, retention_s: float) -> Change:
    """Note that the dead letter is confirmed: nothing is left to do for this job."""
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
    Begin the next round of a failed job: queued, with all attempts. The caller then publishes it.

    It keeps its history and, unless that is to be forgotten, its journal. It takes its unique key
    again; if another job holds that, the change is refused (`UniqueTaken`).
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
    """Fail a queued job that no worker can run, for example because of invalid arguments."""
    return Change(
        job.id,
        _as_read(job),
        {"seq": Plus(1), **_ended(Status.FAILED), "error": error, "due_at": NOW},
        remove=("unique_held",),
        note=error.reason,
    )


def cancel_waiting(job_id: str, *, retention_s: float) -> Change:
    """Cancel a job that no worker holds: it ends at once."""
    return Change(
        job_id,
        {"status": OneOf(WAITING)},
        {"seq": Plus(1), **_ended(Status.CANCELLED), "expires_at": expiry(retention_s)},
        remove=("due_at", "unique_held"),
        note="",
    )


def request_cancel(job_id: str) -> Change:
    """Request a running job to stop: its holder obeys the flag."""
    return Change(job_id, {"status": Status.PROCESSING}, {"cancel_requested": True})


def count_late_write(job_id: str) -> Change:
    """Count a write that was refused because its claim was lost, whatever the job is now."""
    return Change(job_id, {}, {"late_writes": Plus(1)})


def _as_read(job: Job) -> Mapping[str, Any]:
    return {"status": job.status, "seq": job.seq}


def _ended(status: Status) -> dict[str, Any]:
    return {"status": status, "ended_at": NOW}
