"""The claim of a delivered job: no message is acked before the ledger guards its job."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

import structlog

from api_shared.client.bind.task import JobTask
from api_shared.errors import (
    AcceptanceUnknown,
    LedgerUnavailable,
    UniqueTaken,
    UnreadableRecord,
    UsageError,
)
from api_shared.job import Job, Reason, Status
from api_shared.ledger.operations import (
    Claim,
    Claimed,
    Refused,
    Release,
)
from api_shared.transport.consumer import Delivery
from api_shared.transport.dead_letter_headers import dead_letter_headers_of
from api_shared.transport.message import JobMessage
from api_shared.worker.run.adopt import _revived
from api_shared.worker.run.errors import NotOurs
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()

LEDGER_PAUSE_S = 2.0
"""How long a worker takes no messages after it could not reach the ledger."""
UNREADABLE_S = 10.0
"""After how long a job that this release cannot read is published for another worker."""


async def claim_job(
    task: JobTask[Any, Any], delivery: Delivery, message: JobMessage, worker: WorkerRuntime
) -> HeldClaim:
    """
    Claim the job and ack its delivery, in this order: no message is acked before the ledger
    guards its job. Raises `NotOurs`.
    """
    claim = Claim(message.job_id, secrets.token_hex(8), worker.worker_id, worker.settings.lease_s)
    try:
        with worker.claims.writing(claim.job_id, claim.token):
            verdict = await _apply_claim(claim, worker)
            if isinstance(verdict, Refused) and await _revived(
                verdict.job, task, message, delivery, worker
            ):
                verdict = await _apply_claim(claim, worker)
    except (LedgerUnavailable, AcceptanceUnknown) as error:
        log.warning("claim.ledger_away", job_id=message.job_id, error=str(error))
        delivery.requeue()
        worker.consumer.pause(LEDGER_PAUSE_S)
        raise NotOurs from None
    except UnreadableRecord as error:
        await _hand_over(delivery, claim, error, worker)
        raise NotOurs from None
    except UsageError as error:
        is_taken = isinstance(error, UniqueTaken)
        reason = Reason.UNIQUE_TAKEN if is_taken else Reason.INVALID_ARGUMENTS
        await worker.dead_letter(delivery, reason, str(error))
        raise NotOurs from None
    match verdict:
        case Claimed(job) if job.task != message.task:
            await _let_go(job, claim, worker)
            await _dead_letter_stranger(delivery, message, job, worker)
        case Claimed(job):
            delivery.ack()
            return HeldClaim(job, claim.token, worker.ledger, worker.notifier)
        case Refused(None):
            detail = "accepted once, but its record has expired"
            await worker.dead_letter(delivery, Reason.FORGOTTEN, detail)
        case Refused(job) if job is not None and job.task != message.task:
            await _dead_letter_stranger(delivery, message, job, worker)
        case Refused(job) if job is not None:
            _drop(delivery, job)
    raise NotOurs


async def _dead_letter_stranger(
    delivery: Delivery, message: JobMessage, job: Job, worker: WorkerRuntime
) -> None:
    """Dead-letter a message of another task under this job's id."""
    detail = f"job {job.id} is a {job.task!r}, this message says {message.task!r}"
    await worker.dead_letter(delivery, Reason.UNREADABLE, detail)


def _drop(delivery: Delivery, job: Job) -> None:
    """
    Ack a message whose job its record guards. A stale dead letter was moved by a person: log it.
    """
    dead_letter = dead_letter_headers_of(delivery.headers)
    if dead_letter is None:
        log.debug("delivery.dropped", job_id=job.id, status=job.status)
    else:
        log.warning(
            "dead_letter.stale",
            job_id=job.id,
            status=job.status,
            round=job.round,
            ended_round=dead_letter.ended_round,
        )
    delivery.ack()


async def _let_go(job: Job, claim: Claim, worker: WorkerRuntime) -> None:
    """Undo a claim that was made for a message of another task."""
    why = "claimed by a message of another task"
    await worker.ledger.apply(Release(job.id, claim.token, job.seq + 1, 0, why))


async def _hand_over(
    delivery: Delivery, claim: Claim, error: UnreadableRecord, worker: WorkerRuntime
) -> None:
    """
    Leave a job to workers of the release that wrote it. Neither a loss nor an attempt is counted.

    A dead letter that was moved back becomes a dead letter again: this worker cannot know whether
    it begins a round.
    """
    log.warning("claim.unreadable", job_id=claim.job_id, error=str(error))
    why = "written by another release than this worker's"
    back = Release(claim.job_id, claim.token, error.seq + 1, UNREADABLE_S, why)
    with suppress(LedgerUnavailable, UnreadableRecord):  # else its lease runs out
        await worker.ledger.apply(back, deadline_s=worker.settings.lease_s)
    if dead_letter_headers_of(delivery.headers) is None:
        delivery.ack()
    else:
        await worker.dead_letters.dead_letter_message(delivery, Reason.UNREADABLE, str(error))


async def _apply_claim(claim: Claim, worker: WorkerRuntime) -> Claimed | Refused:
    """Claim, and once more if the job was queued between the write and its read-back."""
    deadline_s = worker.settings.lease_s
    verdict = await worker.ledger.apply(claim, deadline_s=deadline_s)
    if isinstance(verdict, Refused) and verdict.job and verdict.job.status is Status.QUEUED:
        verdict = await worker.ledger.apply(claim, deadline_s=deadline_s)
    return verdict
