"""From an outcome to the record: the write that ends a claim, and who is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from api_shared.backoff import backoff_s
from api_shared.client.result_backend import encode_result, taskiq_result_of
from api_shared.client.task import JobTask
from api_shared.errors import LedgerUnavailable, UsageError
from api_shared.job import SLEEPING, Job, JobError, Reason, Status
from api_shared.ledger.operations import (
    Cancel,
    Complete,
    Fail,
    FencedWrite,
    Release,
    Retry,
)
from api_shared.notifier.events import JobEvent, StoredResult
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
    Write the outcome; the job as settled, None when the claim was gone and nothing written, or the
    ledger did not take it: then the job runs again, elsewhere.
    """
    seq = await claim.settle()
    write = settlement(task, claim, outcome, seq, worker)
    if write is None:
        return None
    try:
        applied = await worker.runtime.ledger.apply(write)
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
    why = write.why if isinstance(write, Release) else None
    tell_status(job, seq, job.status, worker, result, why=why)
    return job


async def _was_cancelled_meanwhile(
    claim: HeldClaim, write: FencedWrite, worker: WorkerRuntime
) -> bool:
    """A cancel was asked for while the job was being handed on: it is not handed on, it ends."""
    if not isinstance(write, (Retry, Release)):
        return False
    try:
        job = await worker.runtime.ledger.get(claim.job.id)
    except LedgerUnavailable:
        return False  # its lease runs out, and whoever takes it back ends it
    return job is not None and job.token == claim.token and job.cancel_requested


def settlement(
    task: JobTask[Any, Any], claim: HeldClaim, outcome: Outcome, seq: int, worker: WorkerRuntime
) -> FencedWrite | None:
    """The write that says `outcome`; None: the claim is gone, nothing may be written."""
    job, contract, settings = claim.job, task.contract, worker.runtime.settings
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
    """The record as the write left it, for telling; times are near enough."""
    put = {
        name: value
        for name, value in write.change.put.items()
        if name in ("status", "seq", "result_json", "error")
    }
    failures = 1 if isinstance(write, (Fail, Retry)) else 0
    ended_at = job.started_at and job.started_at + timedelta(seconds=run_s)
    due_at = None
    if isinstance(write, (Retry, Release)) and ended_at is not None:
        due_at = ended_at + timedelta(seconds=write.delay_s)
    attempt = job.attempt + failures
    return replace(job, **put, attempt=attempt, ended_at=ended_at, due_at=due_at)


def tell_status(
    job: Job,
    seq: int,
    status: Status,
    worker: WorkerRuntime,
    result: StoredResult | None = None,
    *,
    why: str | None = None,
) -> None:
    error = f"{job.error.reason}: {job.error.message}" if job.error else None
    event = JobEvent(
        "status", job.id, seq, status, job.task, job.queue, job.owner, job.correlation_id,
        job.attempt, error=error, due_at=job.due_at if status in SLEEPING else None,
        why=why,
    )  # fmt: skip
    worker.runtime.notifier.publish(event, result)
