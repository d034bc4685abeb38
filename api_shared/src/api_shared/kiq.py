"""The one door in: validate, write the ledger, publish."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import structlog

from api_shared.amqp.errors import RabbitUnavailable
from api_shared.amqp.publisher import Outbox
from api_shared.amqp.topology import Topology
from api_shared.contracts.door import Submission
from api_shared.errors import AcceptanceUnknown, JobIdTaken, LedgerUnavailable, Unroutable
from api_shared.job import Job, JobError, Reason, Status
from api_shared.ledger import Ledger
from api_shared.ledger.operations import Insert, Inserted
from api_shared.ledger.transitions import fail_queued
from api_shared.ledger.unique import release_lapsed
from api_shared.notifier import Notifier, status_event
from api_shared.record import insert_of
from api_shared.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Backing:
    """What stands behind a broker in this process."""

    settings: Settings
    topology: Topology
    ledger: Ledger
    notifier: Notifier
    outbox: Outbox


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    The job of a kiq. `deduplicated`: it holds the unique key, and nothing new was accepted;
    `other_arguments`: and it was asked for with other arguments than those of now.
    """

    job: Job
    deduplicated: bool = False
    other_arguments: bool = False


async def accept(submission: Submission[Any, Any], backing: Backing) -> Accepted:
    """
    Accept a job: when this returns it is in the ledger, and published or soon published.

    Ends in one of three ways: the job; an error with nothing kept (`UsageError`, `Unroutable`,
    `LedgerUnavailable`); `AcceptanceUnknown`.
    """
    insert = insert_of(submission, backing.topology, backing.settings)
    job = insert.job
    inserted = await take_in(insert, backing)
    if inserted.job.id != job.id:
        log.info("kiq.deduplicated", job_id=inserted.job.id, task=job.task)
        return Accepted(inserted.job, True, not _same_arguments(job, inserted.job))
    if not inserted.by_us:
        return Accepted(_same_job(job, inserted.job))
    return Accepted(inserted.job)


async def take_in(insert: Insert, backing: Backing) -> Inserted:
    """Write the ledger; then publish and tell listeners, if the job is new. Raises as `accept`."""
    inserted = await enter(insert, backing)
    job = inserted.job
    if not inserted.by_us:
        return inserted
    try:
        if job.status is Status.QUEUED:
            await backing.outbox.publish_job(job)
    except RabbitUnavailable as error:
        log.info("kiq.publish_later", job_id=job.id, task=job.task, error=str(error))
    except Unroutable as error:
        try:
            await _give_up(insert, job, error, backing)
        except LedgerUnavailable:  # the record may stay, and the dispatcher has it then
            raise AcceptanceUnknown(job.id) from error
        raise
    backing.notifier.tell(status_event(job))
    return inserted


async def enter(insert: Insert, backing: Backing) -> Inserted:
    """
    Put a new job into the ledger, unless another one holds its unique key.

    A key whose period is over by the ledger's clock is freed for it. Raises as `Ledger.apply`.
    """
    while True:
        inserted = await backing.ledger.apply(insert, deadline_s=backing.settings.kiq_deadline_s)
        holder = inserted.job
        if holder.id == insert.job.id or holder.unique_until is None:
            return inserted
        if await backing.ledger.change(release_lapsed(holder)) is None:
            return inserted


async def _give_up(insert: Insert, job: Job, error: Unroutable, backing: Backing) -> None:
    """
    No queue takes the job: it is as if it had never been.

    A unique one may have been given to somebody else by now: it stays, and has failed.
    """
    if job.unique_key is None:
        await backing.ledger.withdraw(job.id, insert.change.change_id)
        return
    job_error = JobError(Reason.UNROUTABLE, type(error).__name__, str(error))
    failed = await backing.ledger.change(fail_queued(job, job_error))
    if failed is not None:
        backing.notifier.tell(status_event(failed))


def _same_job(asked: Job, there: Job) -> Job:
    """A job accepted twice is one job, if it is the same request. Raises `JobIdTaken`."""
    if asked.task != there.task or not _same_arguments(asked, there):
        raise JobIdTaken(asked.id, there.task)
    return there


def _same_arguments(asked: Job, there: Job) -> bool:
    return bool(json.loads(asked.args_json) == json.loads(there.args_json))
