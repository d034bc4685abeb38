"""
The way of one job through a worker: claim → ack → run → settle → notify.

It knows nothing of who delivers to it: taskiq's receiver today.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import structlog

from api_shared.backoff import backoff_s
from api_shared.client.formatter import to_message
from api_shared.client.task import JobTask
from api_shared.job import Job, Status
from api_shared.ledger.operations import TakeLastChance
from api_shared.ledger.transitions import needs_last_chance
from api_shared.transport.consumer import Delivery
from api_shared.transport.message import JobMessage
from api_shared.worker.job_process import Slot
from api_shared.worker.run.claim import claim_job
from api_shared.worker.run.errors import NotOurs
from api_shared.worker.run.execute import execute
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.outcome import Completed, Failed, LostClaim, Outcome, Snoozed
from api_shared.worker.run.settle import settle_job, tell_status
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()

WAITS_TO_BE_ALONE = "one more loss would be its last: it runs alone"
ALONE_WAIT_S = 5.0
"""How long such a job waits for the others of its process to end, while no more are taken."""
ALONE_AGAIN_S = (0.25, 30.0)
"""After how long it tries again: at first, and at most. Doubles each time."""
ALONE_TRIES = 12
"""
After so many, some four minutes, it runs beside the others: long jobs must not starve it. Beside
one that runs alone it never does.
"""
RUNS_STILL = "an earlier run of it goes on in this process"
NEXT_DOOR_S = 0.5
"""After how long a job that cannot run in this process is published for another one."""


async def run_job(
    task: JobTask[Any, Any],
    delivery: Delivery,
    wire: JobMessage,
    slot: Slot | None,
    worker: WorkerRuntime,
) -> Any:
    """
    Run one delivery to its settlement and return the task's value.

    Raises what the task raised, or `NotOurs`; either way everything is settled, and the delivery
    is acked or given back.
    """
    claim = await claim_job(task, delivery, wire, worker)
    worker.claims.add(claim)
    try:
        with structlog.contextvars.bound_contextvars(**_log_context(claim.job)):
            return await _run_and_settle(task, claim, wire, slot, worker)
    finally:
        worker.claims.remove(claim)
        if claim.body is not None:
            worker.stuck_tasks.add(claim.job.id, claim.body.task)


async def _run_and_settle(
    task: JobTask[Any, Any],
    claim: HeldClaim,
    wire: JobMessage,
    slot: Slot | None,
    worker: WorkerRuntime,
) -> Any:
    tell_status(claim.job, claim.job.seq, Status.PROCESSING, worker)
    started = monotonic()
    outcome = await _run(task, claim, wire, slot, worker)
    run_s = monotonic() - started
    job = await settle_job(task, claim, outcome, run_s, worker)
    _log_outcome(job, outcome, run_s)
    if job is not None and job.status is Status.FAILED:
        await worker.dead_letters.dead_letter_job(job)
    match outcome:
        case Completed(value) if job is not None:
            return value
        case Failed(exception=exception):
            raise exception
        case _:
            raise NotOurs


async def _run(
    task: JobTask[Any, Any],
    claim: HeldClaim,
    wire: JobMessage,
    slot: Slot | None,
    worker: WorkerRuntime,
) -> Outcome:
    """
    The body, once. A job that would fail if it were lost again runs with nothing else in its
    process: what kills a worker then is that job, and what it kills is nobody else. Before it runs
    it takes its last chance, in the ledger: a worker that dies while it waits is no fault of it.
    """
    job = claim.job
    if worker.claims.stop_earlier(claim):
        return Snoozed(NEXT_DOOR_S, RUNS_STILL)
    if job.id in worker.stuck_tasks:
        worker.stuck_tasks.make_way(job.id)
        return Snoozed(NEXT_DOOR_S, RUNS_STILL)
    if not needs_last_chance(job, max_lost=worker.runtime.settings.task_max_lost):
        with worker.floor.beside_others() as may_enter:
            if may_enter:
                return await _body(task, claim, wire, slot, worker)
        return Snoozed(NEXT_DOOR_S, "another job runs alone in this process")
    waits = _waits_to_be_alone(job)
    with worker.intake.held():
        starves = waits >= ALONE_TRIES
        async with worker.floor.alone(within_s=ALONE_WAIT_S, else_beside=starves) as may_run:
            if may_run:
                chance = TakeLastChance(job.id, claim.token, claim.next_seq())
                if not await worker.runtime.ledger.apply(chance):
                    return LostClaim()
                return await _body(task, claim, wire, slot, worker)
    first_s, most_s = ALONE_AGAIN_S
    return Snoozed(backoff_s(waits + 1, base_s=first_s, cap_s=most_s), WAITS_TO_BE_ALONE)


def _waits_to_be_alone(job: Job) -> int:
    """How often it waited in vain since it was lost last."""
    waits = 0
    for entry in reversed(job.history):
        if entry.note == WAITS_TO_BE_ALONE:
            waits += 1
        elif entry.note:
            break
    return waits


async def _body(
    task: JobTask[Any, Any],
    claim: HeldClaim,
    wire: JobMessage,
    slot: Slot | None,
    worker: WorkerRuntime,
) -> Outcome:
    return await execute(
        task,
        claim,
        to_message(wire),
        settings=worker.runtime.settings,
        compute=worker.compute,
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
