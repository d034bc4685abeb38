"""From a delivery to a claim: no message is acked before the ledger guards its job."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import structlog
from taskiq.exceptions import NoResultError

from api_shared.amqp.consumer import Delivery
from api_shared.errors import (
    LedgerUnavailable,
    UsageError,
)
from api_shared.formatter import to_message
from api_shared.job import Job, Reason, Status
from api_shared.kiq import record_of
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import (
    Claim,
    Claimed,
    HandBack,
    Insert,
    Refused,
)
from api_shared.submission import submission_of
from api_shared.task import JobTask
from api_shared.wire import ACCEPTED, WireJob
from api_shared.worker.claims import HeldClaim, Stop
from api_shared.worker.workplace import Workplace

log = structlog.get_logger()

LEDGER_PAUSE_S = 2.0
"""How long a worker that cannot reach the ledger takes no messages."""


class NotOurs(NoResultError):
    """This delivery gives no job to run here; whoever guards the job has it."""


async def claim_job(
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
