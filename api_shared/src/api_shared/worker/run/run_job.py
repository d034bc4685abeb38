"""
The steps of one job in a worker: claim → ack → run → settle → notify.

It does not depend on what delivers the job; today that is taskiq's receiver.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import structlog

from api_shared.client.bind.task import JobTask
from api_shared.client.formatter import to_taskiq
from api_shared.job import Job, Status
from api_shared.notifier.events import status_event
from api_shared.transport.consumer import Delivery
from api_shared.transport.message import JobMessage
from api_shared.worker.job_process import Slot
from api_shared.worker.run.claim import claim_job
from api_shared.worker.run.errors import NotOurs
from api_shared.worker.run.execute import execute
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.outcome import Completed, Failed, Outcome
from api_shared.worker.run.settle import settle_job
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()


async def run_job(
    task: JobTask[Any, Any],
    delivery: Delivery,
    message: JobMessage,
    slot: Slot | None,
    worker: WorkerRuntime,
) -> Any:
    """
    Run one delivery to its settlement and return the task's value.

    Raises what the task raised, or `NotOurs`; either way everything is settled, and the delivery
    is acked or requeued.
    """
    claim = await claim_job(task, delivery, message, worker)
    worker.claims.add(claim)
    try:
        with structlog.contextvars.bound_contextvars(**_log_context(claim.job)):
            worker.notifier.publish(status_event(claim.job))
            started = monotonic()
            outcome = await _run_isolated(task, claim, message, slot, worker)
            run_s = monotonic() - started
            job = await settle_job(task, claim, outcome, run_s, worker)
            _log_outcome(job, outcome, run_s)
            if job is not None and job.status is Status.FAILED:
                await worker.dead_letters.dead_letter_job(job)
            return _value_of(outcome, job)
    finally:
        worker.claims.remove(claim)
        if claim.running is not None:
            worker.stuck_tasks.add(claim.job.id, claim.running.task)


async def _run_isolated(
    task: JobTask[Any, Any],
    claim: HeldClaim,
    message: JobMessage,
    slot: Slot | None,
    worker: WorkerRuntime,
) -> Outcome:
    async with worker.isolation.admit(claim) as refused:
        if refused is not None:
            return refused
        return await execute(
            task,
            claim,
            to_taskiq(message),
            settings=worker.settings,
            executor=worker.executor,
            slot=slot,
        )


def _value_of(outcome: Outcome, job: Job | None) -> Any:
    """The value for taskiq. Raises what the task raised, and `NotOurs` if the job has not ended."""
    match outcome:
        case Completed(value) if job is not None:
            return value
        case Failed(exception=exception):
            raise exception
        case _:
            raise NotOurs


def _log_context(job: Job) -> dict[str, Any]:
    context: dict[str, Any] = {"job_id": job.id, "task": job.task, "claim_no": job.claim_no}
    if job.correlation_id:
        context["correlation_id"] = job.correlation_id
    return context


def _log_outcome(job: Job | None, outcome: Outcome, run_s: float) -> None:
    """The canonical line: one for each attempt."""
    if job is None:
        log.warning("job.claim_lost", run_s=round(run_s, 3))
        return
    keys: dict[str, Any] = {"run_s": round(run_s, 3), "attempt": job.attempt}
    if isinstance(outcome, Failed):
        keys |= {"reason": outcome.error.reason, "error": outcome.error.type}
    log.info(f"job.{job.status}", **keys)
