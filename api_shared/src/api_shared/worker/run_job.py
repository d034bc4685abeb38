"""
The way of one job through a worker: claim → ack → run → settle → notify.

It knows nothing of who delivers to it: taskiq's receiver today.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import structlog

from api_shared.amqp.consumer import Delivery
from api_shared.formatter import to_message
from api_shared.job import Job, Status
from api_shared.task import JobTask
from api_shared.wire import WireJob
from api_shared.worker.backoff import backoff_s
from api_shared.worker.body import run_body
from api_shared.worker.claiming import NotOurs, claim_job
from api_shared.worker.claims import HeldClaim, Stop
from api_shared.worker.compute import Slot
from api_shared.worker.outcome import (
    Cancelled,
    Done,
    Failed,
    Outcome,
    Snoozed,
)
from api_shared.worker.settling import settle_job, tell_status
from api_shared.worker.workplace import Workplace

log = structlog.get_logger()

SUSPECT_WAIT_S = (0.25, 30.0)
"""How long a suspect waits for its turn: at first, and at most."""


async def run_job(
    task: JobTask[Any, Any], delivery: Delivery, wire: WireJob, slot: Slot | None, at: Workplace
) -> Any:
    """
    Run one delivery to its settlement and return the task's value.

    Raises what the task raised, or `NotOurs`; either way everything is settled, and the delivery
    is acked or given back.
    """
    claim = await claim_job(task, delivery, wire, at)
    at.claims.add(claim)
    try:
        with structlog.contextvars.bound_contextvars(**_log_context(claim.job)):
            return await _run_and_settle(task, claim, wire, slot, at)
    finally:
        at.claims.remove(claim)


async def _run_and_settle(
    task: JobTask[Any, Any], claim: HeldClaim, wire: WireJob, slot: Slot | None, at: Workplace
) -> Any:
    tell_status(claim.job, claim.job.seq, Status.PROCESSING, at)
    started = monotonic()
    outcome = await _run(task, claim, wire, slot, at)
    run_s = monotonic() - started
    job = await settle_job(task, claim, outcome, run_s, at)
    _log_outcome(job, outcome, run_s)
    if job is not None and job.status is Status.FAILED:
        await at.dead_letters.bury_job(job)
    match outcome:
        case Done(value) if job is not None:
            return value
        case Failed(exception=exception):
            raise exception
        case _:
            raise NotOurs


async def _run(
    task: JobTask[Any, Any], claim: HeldClaim, wire: WireJob, slot: Slot | None, at: Workplace
) -> Outcome:
    """
    The body, once. A job that would fail if it were lost again is a suspect: suspects run one at
    a time in a process, so that a poison job cannot bring its neighbours to their limit.
    """
    if claim.stop_reason is Stop.CANCEL:
        return Cancelled()
    if claim.job.lost < max(1, at.backing.settings.task_max_lost - 1):
        return await _body(task, claim, wire, slot, at)
    if at.suspects.locked():
        return Snoozed(_suspect_wait_s(claim.job))
    async with at.suspects:
        return await _body(task, claim, wire, slot, at)


def _suspect_wait_s(job: Job) -> float:
    """Doubles each time: many short suspects are soon through, long ones are not asked for ever."""
    first_s, most_s = SUSPECT_WAIT_S
    waited = max(0, job.claim_no - 1 - job.lost - job.attempt)
    return backoff_s(waited + 1, base_s=first_s, cap_s=most_s)


async def _body(
    task: JobTask[Any, Any], claim: HeldClaim, wire: WireJob, slot: Slot | None, at: Workplace
) -> Outcome:
    return await run_body(
        task,
        claim,
        to_message(wire),
        settings=at.backing.settings,
        compute=at.compute,
        slot=slot,
    )


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
