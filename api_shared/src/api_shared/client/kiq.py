"""The acceptance of a job: validation, the write to the ledger, the publish."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from api_shared.client.new_job import new_job
from api_shared.client.runtime import Runtime
from api_shared.client.submission import Submission
from api_shared.errors import AcceptanceUnknown, JobIdTaken, LedgerUnavailable, Unroutable
from api_shared.job import Job, JobError, Reason, Status
from api_shared.ledger.operations import Insert, Inserted
from api_shared.ledger.transitions import fail_queued
from api_shared.ledger.unique_keys import release_lapsed
from api_shared.notifier.events import status_event
from api_shared.transport.errors import RabbitUnavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    The job of a kiq. `deduplicated`: the job is an earlier one, which holds the unique key, and no
    new job was accepted. `other_arguments`: the earlier job has other arguments.
    """

    job: Job
    deduplicated: bool = False
    other_arguments: bool = False


async def accept(submission: Submission[Any, Any], runtime: Runtime) -> Accepted:
    """
    Accept a job. When this returns, the job is in the ledger and is published, now or soon.

    There are three ends: the job is returned; an error is raised and no job is kept (`UsageError`,
    `Unroutable`, `LedgerUnavailable`); or `AcceptanceUnknown` is raised.
    """
    insert = new_job(submission, runtime.topology, runtime.settings)
    job = insert.job
    with cancellation_told(job.id):
        inserted = await insert_and_publish(insert, runtime)
    if inserted.job.id != job.id:
        log.info("kiq.deduplicated", job_id=inserted.job.id, task=job.task)
        return Accepted(inserted.job, True, not _same_arguments(job, inserted.job))
    if not inserted.by_us:
        return Accepted(_same_job(job, inserted.job))
    return Accepted(inserted.job)


@contextmanager
def cancellation_told(job_id: str) -> Iterator[None]:
    """
    Raise `AcceptanceUnknown` where the caller is cancelled, from the first write of the job on.

    Its job may run, and a plain CancelledError would keep the id from whoever asked for it.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise AcceptanceUnknown(job_id) from None


async def insert_and_publish(insert: Insert, runtime: Runtime) -> Inserted:
    """
    Insert a job into the ledger. A new one is published, and its listeners are notified.

    Raises as `accept` does.
    """
    inserted = await insert_job(insert, runtime)
    job = inserted.job
    if not inserted.by_us:
        return inserted
    try:
        if job.status is Status.QUEUED:
            await runtime.publisher.publish_job(job)
    except RabbitUnavailable as error:
        log.info("kiq.publish_later", job_id=job.id, task=job.task, error=str(error))
    except Unroutable as error:
        if not await _withdrawn(insert, job, error, runtime):
            raise AcceptanceUnknown(job.id) from error
        raise
    runtime.notifier.publish(status_event(job))
    return inserted


async def insert_job(insert: Insert, runtime: Runtime) -> Inserted:
    """
    Insert a job into the ledger, unless another one holds its unique key.

    A key whose period is over by the ledger's clock is released first. Raises as `Ledger.apply`.
    """
    while True:
        inserted = await runtime.ledger.apply(insert, deadline_s=runtime.settings.kiq_deadline_s)
        holder = inserted.job
        if holder.id == insert.job.id or holder.unique_until is None:
            return inserted
        if await runtime.ledger.change(release_lapsed(holder)) is None:
            return inserted


async def _withdrawn(insert: Insert, job: Job, error: Unroutable, runtime: Runtime) -> bool:
    """
    Whether a job that no queue takes was withdrawn, so that none is kept.

    It was not if the ledger is away or the job has changed: a dispatcher may publish it later. A
    unique job stays and fails: another kiq may have returned its handle by now.
    """
    try:
        if job.unique_key is None:
            return await runtime.ledger.withdraw(job.id, insert.change.change_id)
        job_error = JobError(Reason.UNROUTABLE, type(error).__name__, str(error))
        failed = await runtime.ledger.change(fail_queued(job, job_error))
    except LedgerUnavailable:
        return False
    if failed is not None:
        runtime.notifier.publish(status_event(failed))
    return failed is not None


def _same_job(asked: Job, there: Job) -> Job:
    """The job that has the id already, if it is the same request. Raises `JobIdTaken`."""
    if asked.task != there.task or not _same_arguments(asked, there):
        raise JobIdTaken(asked.id, there.task)
    return there


def _same_arguments(asked: Job, there: Job) -> bool:
    return bool(json.loads(asked.args_json) == json.loads(there.args_json))
