"""From a delivery to a claim: no message is acked before the ledger guards its job."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog
from taskiq.exceptions import NoResultError

from api_shared.amqp.consumer import Delivery
from api_shared.amqp.topology import MAX_PRIORITY
from api_shared.dead_mark import DeadMark, mark_of
from api_shared.dlq import has_ended, next_round
from api_shared.errors import (
    AcceptanceUnknown,
    InvalidArguments,
    LedgerUnavailable,
    UniqueTaken,
    UnreadableRecord,
    UsageError,
)
from api_shared.formatter import to_message
from api_shared.job import Job, Reason, Status
from api_shared.kiq import enter
from api_shared.ledger.operations import (
    Claim,
    Claimed,
    HandBack,
    Insert,
    Refused,
)
from api_shared.record import insert_of
from api_shared.submission import submission_of
from api_shared.task import JobTask
from api_shared.wire import ACCEPTED, WireJob
from api_shared.worker.claims import HeldClaim
from api_shared.worker.workplace import Workplace

log = structlog.get_logger()

LEDGER_PAUSE_S = 2.0
"""How long a worker that cannot reach the ledger takes no messages."""
UNREADABLE_S = 10.0
"""After how long a job that this release cannot read is published for another worker."""


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
        with at.claims.writing(claim.job_id, claim.token):
            verdict = await _apply_claim(claim, at)
            if isinstance(verdict, Refused) and await _revived(
                verdict.job, task, wire, delivery, at
            ):
                verdict = await _apply_claim(claim, at)
    except (LedgerUnavailable, AcceptanceUnknown) as error:
        log.warning("claim.ledger_away", job_id=wire.job_id, error=str(error))
        delivery.give_back()
        at.intake.pause(LEDGER_PAUSE_S)
        raise NotOurs from None
    except UnreadableRecord as error:
        await _hand_over(delivery, claim, error, at)
        raise NotOurs from None
    except UsageError as error:
        is_taken = isinstance(error, UniqueTaken)
        reason = Reason.UNIQUE_TAKEN if is_taken else Reason.INVALID_ARGUMENTS
        await at.bury(delivery, reason, str(error))
        raise NotOurs from None
    match verdict:
        case Claimed(job) if job.task != wire.task:
            await _let_go(job, claim, at)
            await _bury_stranger(delivery, wire, job, at)
        case Claimed(job):
            delivery.ack()
            return HeldClaim(job, claim.token, at.backing.ledger, at.backing.notifier)
        case Refused(None):
            detail = "accepted once, but its record has expired"
            await at.bury(delivery, Reason.FORGOTTEN, detail)
        case Refused(job) if job is not None and job.task != wire.task:
            await _bury_stranger(delivery, wire, job, at)
        case Refused(job) if job is not None:
            _drop(delivery, job)
    raise NotOurs


async def _revived(
    job: Job | None, task: JobTask[Any, Any], wire: WireJob, delivery: Delivery, at: Workplace
) -> bool:
    """
    Whether this message has made a job to be claimed of what was none: a foreign one that was
    recorded, or a dead letter that somebody moved back to its queue. Raises `UsageError`.
    """
    mark = mark_of(delivery.headers)
    if job is None:
        if delivery.headers.get(ACCEPTED) and mark is None:
            return False
        await _adopt(task, wire, delivery, mark, at)
        return True
    if mark is None or job.task != wire.task or not has_ended(job, mark):
        return False
    await next_round(job, at.backing, why="dead letter moved back")
    return True


async def _bury_stranger(delivery: Delivery, wire: WireJob, job: Job, at: Workplace) -> None:
    """A message of another task under this job's id."""
    detail = f"job {job.id} is a {job.task!r}, this message says {wire.task!r}"
    await at.bury(delivery, Reason.UNREADABLE, detail)


def _drop(delivery: Delivery, job: Job) -> None:
    """The job is guarded by its record; a stale dead letter was somebody's act, so it is said."""
    mark = mark_of(delivery.headers)
    if mark is None:
        log.debug("delivery.dropped", job_id=job.id, status=job.status)
    else:
        log.warning(
            "dead_letter.stale",
            job_id=job.id,
            status=job.status,
            round=job.round,
            ended_round=mark.ended_round,
        )
    delivery.ack()


async def _let_go(job: Job, claim: Claim, at: Workplace) -> None:
    """Undo a claim that a message of another task has brought about."""
    why = "claimed by a message of another task"
    await at.backing.ledger.apply(HandBack(job.id, claim.token, job.seq + 1, 0, why))


async def _hand_over(
    delivery: Delivery, claim: Claim, error: UnreadableRecord, at: Workplace
) -> None:
    """
    Leave a job to workers of the release that wrote it: no loss, no attempt counted. A dead letter
    that somebody moved back is one again: whether it begins a round cannot be said here.
    """
    log.warning("claim.unreadable", job_id=claim.job_id, error=str(error))
    why = "written by another release than this worker's"
    back = HandBack(claim.job_id, claim.token, error.seq + 1, UNREADABLE_S, why)
    with suppress(LedgerUnavailable, UnreadableRecord):  # else its lease runs out
        await at.backing.ledger.apply(back, deadline_s=at.backing.settings.lease_s)
    if mark_of(delivery.headers) is None:
        delivery.ack()
    else:
        await at.dead_letters.bury_message(delivery, Reason.UNREADABLE, str(error))


async def _apply_claim(claim: Claim, at: Workplace) -> Claimed | Refused:
    """A job may turn queued between the claim's write and its read-back: then try once more."""
    deadline_s = at.backing.settings.lease_s
    verdict = await at.backing.ledger.apply(claim, deadline_s=deadline_s)
    if isinstance(verdict, Refused) and verdict.job and verdict.job.status is Status.QUEUED:
        verdict = await at.backing.ledger.apply(claim, deadline_s=deadline_s)
    return verdict


async def _adopt(
    task: JobTask[Any, Any],
    wire: WireJob,
    delivery: Delivery,
    mark: DeadMark | None,
    at: Workplace,
) -> None:
    """
    Record the job of a message that has no record, as a kiq would have: one that is a duplicate is
    done with, as a kiq's would be, and the log says whose. A dead letter goes on with the round
    after the one it ended, or is kept (`UniqueTaken`). Raises `UsageError`, `NotOurs`.
    """
    try:
        insert = _insert_of(task, wire, delivery, mark, at)
    except UsageError:
        raise
    except Exception as error:  # of the contract's own validators: it would come back for ever
        problem = f"they cannot be checked: {type(error).__name__}"
        raise InvalidArguments(task.contract.name, [problem]) from error
    inserted = await enter(insert, at.backing)
    if inserted.job.id != insert.job.id:
        if mark is not None:
            raise UniqueTaken(str(insert.job.unique_key), inserted.job.id)
        log.warning("message.deduplicated", job_id=wire.job_id, first_job_id=inserted.job.id)
        delivery.ack()
        raise NotOurs
    log.info("message.adopted", job_id=wire.job_id, task=wire.task)


def _insert_of(
    task: JobTask[Any, Any],
    wire: WireJob,
    delivery: Delivery,
    mark: DeadMark | None,
    at: Workplace,
) -> Insert:
    """What a kiq of this message would ask the ledger for. Raises whatever a validator raises."""
    submission = replace(submission_of(to_message(wire), task.contract), queue=delivery.queue.name)
    if mark is not None:
        submission = replace(
            submission,
            owner=mark.owner or submission.owner,
            correlation_id=mark.correlation_id or submission.correlation_id,
            priority=submission.priority or min(delivery.priority, MAX_PRIORITY),
        )
    insert = insert_of(submission, at.backing.topology, at.backing.settings)
    if mark is not None:
        insert = replace(insert, job=replace(insert.job, round=(mark.round or 0) + 1))
    return insert
