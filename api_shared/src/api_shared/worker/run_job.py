"""
The way of one job through a worker: claim → ack → run → settle → notify.

It knows nothing of who delivers to it: taskiq's receiver today.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Any, Protocol

import structlog
from taskiq.exceptions import NoResultError

from api_shared.amqp.consumer import Delivery
from api_shared.errors import (
    LedgerUnavailable,
    UsageError,
)
from api_shared.formatter import to_message
from api_shared.job import Job, JobError, Reason, Status
from api_shared.kiq import Backing, record_of
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import (
    Claim,
    Claimed,
    Complete,
    EndCancelled,
    Fail,
    HandBack,
    HolderWrite,
    Insert,
    Refused,
    Retry,
)
from api_shared.notifier import JobEvent, StoredResult
from api_shared.results import encode_result, taskiq_result_of
from api_shared.submission import submission_of
from api_shared.task import JobTask
from api_shared.wire import ACCEPTED, WireJob
from api_shared.worker.backoff import backoff_s
from api_shared.worker.body import run_body
from api_shared.worker.claims import Claims, HeldClaim, Stop
from api_shared.worker.compute import Compute, Slot
from api_shared.worker.dead_letters import DeadLetters
from api_shared.worker.outcome import (
    Cancelled,
    Done,
    Failed,
    Gone,
    HandedOn,
    Outcome,
    Snoozed,
)

log = structlog.get_logger()

LEDGER_PAUSE_S = 2.0
"""How long a worker that cannot reach the ledger takes no messages."""
SUSPECT_WAIT_S = (0.25, 30.0)
"""How long a suspect waits for its turn: at first, and at most."""


class Intake(Protocol):
    """Where deliveries come from."""

    def pause(self, seconds: float) -> None:
        """Take no more for a while."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a worker process has at hand to run jobs with."""

    worker_id: str
    backing: Backing
    intake: Intake
    claims: Claims
    dead_letters: DeadLetters
    compute: Compute
    suspects: asyncio.Lock


class NotOurs(NoResultError):
    """This delivery gives no job to run here; whoever guards the job has it."""


async def run_job(
    task: JobTask[Any, Any], delivery: Delivery, wire: WireJob, slot: Slot | None, at: Workplace
) -> Any:
    """
    Run one delivery to its settlement and return the task's value.

    Raises what the task raised, or `NotOurs`; either way everything is settled, and the delivery
    is acked or given back.
    """
    claim = await _claim(task, delivery, wire, at)
    at.claims.add(claim)
    try:
        with structlog.contextvars.bound_contextvars(**_log_context(claim.job)):
            return await _run_and_settle(task, claim, wire, slot, at)
    finally:
        at.claims.remove(claim)


async def _run_and_settle(
    task: JobTask[Any, Any], claim: HeldClaim, wire: WireJob, slot: Slot | None, at: Workplace
) -> Any:
    _notify(claim.job, claim.job.seq, Status.PROCESSING, at)
    started = monotonic()
    outcome = await _run(task, claim, wire, slot, at)
    run_s = monotonic() - started
    job = await _settle(task, claim, outcome, run_s, at)
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


# Claim.


async def _claim(
    task: JobTask[Any, Any], delivery: Delivery, wire: WireJob, at: Workplace
) -> HeldClaim:
    """
    Claim the job and ack its delivery, in this order: no message is acked before the ledger
    guards its job. Raises `NotOurs`.
    """
    claim = Claim(wire.job_id, secrets.token_hex(8), at.worker_id, at.backing.settings.lease_s)
    try:
        verdict = await _apply_claim(claim, at)
        if (
            isinstance(verdict, Refused)
            and verdict.job is None
            and not delivery.headers.get(ACCEPTED)
        ):
            await _adopt(task, wire, delivery, at)
            verdict = await _apply_claim(claim, at)
    except LedgerUnavailable as error:
        log.warning("claim.ledger_away", job_id=wire.job_id, error=str(error))
        delivery.give_back()
        at.intake.pause(LEDGER_PAUSE_S)
        raise NotOurs from None
    except UsageError as error:
        await at.dead_letters.bury_message(delivery, Reason.INVALID_ARGUMENTS, str(error))
        raise NotOurs from None
    match verdict:
        case Claimed(job) if job.task != wire.task:
            await _let_go(job, claim, at)
            detail = f"job {job.id} is a {job.task!r}, this message says {wire.task!r}"
            await at.dead_letters.bury_message(delivery, Reason.UNREADABLE, detail)
        case Claimed(job):
            delivery.ack()
            held = HeldClaim(job, claim.token, at.backing.ledger, at.backing.notifier)
            if job.cancel_requested:  # while its last claim was being settled
                held.stop(Stop.CANCEL)
            return held
        case Refused(None):
            detail = "accepted once, but its record has expired"
            await at.dead_letters.bury_message(delivery, Reason.FORGOTTEN, detail)
        case Refused(job) if job is not None and job.status is Status.FAILED:
            error_ = job.error
            reason, detail = (error_.reason, error_.message) if error_ else (Reason.ERROR, "")
            await at.dead_letters.bury_message(delivery, reason, detail)
        case Refused(job):
            log.debug("delivery.dropped", job_id=wire.job_id, status=job.status if job else None)
            delivery.ack()
    raise NotOurs


async def _let_go(job: Job, claim: Claim, at: Workplace) -> None:
    """Undo a claim that a message of another task has brought about."""
    why = "claimed by a message of another task"
    await at.backing.ledger.apply(HandBack(job.id, claim.token, job.seq + 1, 0, why))


async def _apply_claim(claim: Claim, at: Workplace) -> Claimed | Refused:
    """A job may turn queued between the claim's write and its read-back: then try once more."""
    deadline_s = at.backing.settings.lease_s
    verdict = await at.backing.ledger.apply(claim, deadline_s=deadline_s)
    if isinstance(verdict, Refused) and verdict.job and verdict.job.status is Status.QUEUED:
        verdict = await at.backing.ledger.apply(claim, deadline_s=deadline_s)
    return verdict


async def _adopt(task: JobTask[Any, Any], wire: WireJob, delivery: Delivery, at: Workplace) -> None:
    """Record a foreign message's job, as a kiq would have. Raises `UsageError`."""
    submission = replace(submission_of(to_message(wire), task.contract), queue=delivery.queue.name)
    job = record_of(submission, at.backing.topology, at.backing.settings)
    due = NowPlus(at.backing.settings.republish_after_s)
    deadline_s = at.backing.settings.kiq_deadline_s
    await at.backing.ledger.apply(Insert(job, due), deadline_s=deadline_s)
    log.info("message.adopted", job_id=job.id, task=job.task)


# Run.


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


# Settle and notify.


async def _settle(
    task: JobTask[Any, Any], claim: HeldClaim, outcome: Outcome, run_s: float, at: Workplace
) -> Job | None:
    """Write the outcome; the job as settled, None when the claim was gone and nothing written."""
    seq = await claim.settle()
    write = _settlement(task, claim, outcome, seq, at)
    if write is None:
        return None
    try:
        applied = await at.backing.ledger.apply(write)
    except UsageError as error:  # the record cannot hold it
        if isinstance(outcome, Failed):
            raise
        job_error = JobError(Reason.INVALID_RESULT, type(error).__name__, str(error))
        return await _settle(task, claim, Failed(job_error, True, error), run_s, at)
    if not applied:
        log.warning("settle.refused", job_id=claim.job.id, outcome=type(outcome).__name__)
        return None
    job = _as_settled(claim.job, write, run_s)
    result = None
    if job.status.is_terminal:
        result = StoredResult(job.id, encode_result(taskiq_result_of(job)))
    _notify(job, seq, job.status, at, result)
    return job


def _settlement(
    task: JobTask[Any, Any], claim: HeldClaim, outcome: Outcome, seq: int, at: Workplace
) -> HolderWrite | None:
    job, contract, settings = claim.job, task.contract, at.backing.settings
    match outcome:
        case Done(_, result_json):
            return Complete(job.id, claim.token, seq, result_json, settings.retention_s)
        case Failed(error, permanent):
            retries = (
                settings.task_max_retries if contract.max_retries is None else contract.max_retries
            )
            if permanent or job.attempt >= retries:
                again_in_s = at.dead_letters.again_in_s(job.task, settings.lease_s)
                return Fail(job.id, claim.token, seq, error, again_in_s)
            wait_s = backoff_s(
                job.attempt + 1, base_s=contract.backoff_s, cap_s=contract.backoff_cap_s
            )
            return Retry(job.id, claim.token, seq, error, wait_s)
        case Snoozed(delay_s):
            return HandBack(job.id, claim.token, seq, delay_s, "snoozed")
        case HandedOn():
            return HandBack(job.id, claim.token, seq, 0, "worker stopped")
        case Cancelled():
            return EndCancelled(job.id, claim.token, seq, settings.retention_s)
        case Gone():
            return None


def _as_settled(job: Job, write: HolderWrite, run_s: float) -> Job:
    """The record as the write left it, for telling; times are near enough."""
    put = {
        name: value
        for name, value in write.change.put.items()
        if name in ("status", "seq", "result_json", "error")
    }
    failures = 1 if isinstance(write, (Fail, Retry)) else 0
    ended_at = job.started_at and job.started_at + timedelta(seconds=run_s)
    return replace(job, **put, attempt=job.attempt + failures, ended_at=ended_at)


def _notify(
    job: Job, seq: int, status: Status, at: Workplace, result: StoredResult | None = None
) -> None:
    error = f"{job.error.reason}: {job.error.message}" if job.error else None
    event = JobEvent(
        "status", job.id, seq, status, job.task, job.queue, job.owner, job.correlation_id,
        job.attempt, error=error,
    )  # fmt: skip
    at.backing.notifier.tell(event, result)


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
