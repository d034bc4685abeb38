"""The settlement of a job: the write that ends its claim, and the event of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from api_shared.backoff import backoff_s
from api_shared.client.bind.task import JobTask
from api_shared.client.follow.result_backend import encode_result, taskiq_result_of
from api_shared.errors import LedgerUnavailable, UsageError
from api_shared.job import Entry, Job, JobError, Reason
from api_shared.ledger.operations import (
    Cancel,
    Complete,
    Fail,
    FencedWrite,
    Release,
    Retry,
)
from api_shared.notifier.events import StoredResult, status_event
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.outcome import (
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    LostClaim,
    Outcome,
    Snoozed,
)
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()


async def settle_job(
    task: JobTask[Any, Any], claim: HeldClaim, outcome: Outcome, run_s: float, worker: WorkerRuntime
) -> Job | None:
    """
    Write the outcome and return the settled job.

    None if nothing was written: the claim was lost, or the ledger did not take the write. The job
    then runs again elsewhere.
    """
    seq = await claim.settle()
    write = settlement(task, claim, outcome, seq, worker)
    if write is None:
        return None
    try:
        applied = await worker.ledger.apply(write)
    except UsageError as error:  # the record cannot hold it
        if isinstance(outcome, Failed):
            raise
        job_error = JobError(Reason.INVALID_RESULT, type(error).__name__, str(error))
        return await settle_job(task, claim, Failed(job_error, True, error), run_s, worker)
    except LedgerUnavailable as error:
        log.warning("job.outcome_lost", outcome=type(outcome).__name__, error=str(error))
        return None
    if not applied and await _was_cancelled_meanwhile(claim, write, worker):
        return await settle_job(task, claim, Cancelled(), run_s, worker)
    if not applied:
        await claim.was_late(write)
        return None
    job = _as_settled(claim.job, write, run_s)
    result = None
    if job.status.is_terminal:
        result = StoredResult(job.id, encode_result(taskiq_result_of(job)))
    worker.notifier.publish(status_event(job), result)
    return job


async def _was_cancelled_meanwhile(
    claim: HeldClaim, write: FencedWrite, worker: WorkerRuntime
) -> bool:
    """Whether a cancel was requested while the job was being released: then it ends instead."""
    if not isinstance(write, (Retry, Release)):
        return False
    try:
        job = await worker.ledger.get(claim.job.id)
    except LedgerUnavailable:
        return False  # its lease runs out, and its rescue ends it
    return job is not None and job.token == claim.token and job.cancel_requested


def settlement(
    task: JobTask[Any, Any], claim: HeldClaim, outcome: Outcome, seq: int, worker: WorkerRuntime
) -> FencedWrite | None:
    """The write of `outcome`. None: the claim is lost, nothing may be written."""
    job, contract, settings = claim.job, task.contract, worker.settings
    match outcome:
        case Completed(_, result_json):
            streamed = claim.text.has_begun
            return Complete(job.id, claim.token, seq, result_json, settings.retention_s, streamed)
        case Failed(error, permanent):
            retries = (
                settings.task_max_retries if contract.max_retries is None else contract.max_retries
            )
            if permanent or job.attempt >= retries:
                again_in_s = worker.dead_letters.again_in_s(job.task, settings.lease_s)
                return Fail(job.id, claim.token, seq, error, again_in_s)
            wait_s = backoff_s(
                job.attempt + 1, base_s=contract.backoff_s, cap_s=contract.backoff_cap_s
            )
            return Retry(job.id, claim.token, seq, error, wait_s)
        case Snoozed(delay_s, why):
            return Release(job.id, claim.token, seq, delay_s, why)
        case Interrupted():
            return Release(job.id, claim.token, seq, 0, "worker stopped")
        case Cancelled():
            return Cancel(job.id, claim.token, seq, settings.retention_s)
        case LostClaim():
            return None


def _as_settled(job: Job, write: FencedWrite, run_s: float) -> Job:
    """The record after the write, for listeners. Its times are approximate."""
    change = write.change
    put = {
        name: value
        for name, value in change.put.items()
        if name in ("status", "seq", "result_json", "error")
    }
    put |= {"error": None} if "error" in change.remove else {}
    failures = 1 if isinstance(write, (Fail, Retry)) else 0
    now = (job.started_at or datetime.now(UTC)) + timedelta(seconds=run_s)
    due_at = None
    if isinstance(write, (Retry, Release)):
        due_at = now + timedelta(seconds=write.delay_s)
    entry = Entry(write.seq, put["status"], now, change.change_id, note=change.note or "")
    return replace(
        job,
        **put,
        attempt=job.attempt + failures,
        ended_at=now,
        due_at=due_at,
        history=(*job.history, entry),
    )
