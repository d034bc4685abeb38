"""Adoption of foreign messages, and of dead letters that were moved back to their queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog

from api_shared.client.bind.task import JobTask
from api_shared.client.dead_letters.dead_letter import has_ended
from api_shared.client.dead_letters.requeue import requeue
from api_shared.client.formatter import to_taskiq
from api_shared.client.kiq import insert_job
from api_shared.client.new_job import new_job
from api_shared.client.submission import submission_of
from api_shared.errors import (
    InvalidArguments,
    UniqueTaken,
    UsageError,
)
from api_shared.job import Job
from api_shared.ledger.operations import (
    Insert,
)
from api_shared.transport.consumer import Delivery
from api_shared.transport.dead_letter_headers import DeadLetterHeaders, dead_letter_headers_of
from api_shared.transport.message import ACCEPTED, JobMessage
from api_shared.transport.topology import MAX_PRIORITY
from api_shared.worker.run.errors import NotOurs
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()


async def _revived(
    job: Job | None,
    task: JobTask[Any, Any],
    message: JobMessage,
    delivery: Delivery,
    worker: WorkerRuntime,
) -> bool:
    """
    Make a job that can be claimed from a message without one: from a foreign message, or from a
    dead letter that was moved back to its queue. False if the message is neither. Raises
    `UsageError`.
    """
    dead_letter = dead_letter_headers_of(delivery.headers)
    if job is None:
        if delivery.headers.get(ACCEPTED) and dead_letter is None:
            return False
        await _adopt(task, message, delivery, dead_letter, worker)
        return True
    if dead_letter is None or job.task != message.task or not has_ended(job, dead_letter):
        return False
    await requeue(job, worker.runtime, why="dead letter moved back")
    return True


async def _adopt(
    task: JobTask[Any, Any],
    message: JobMessage,
    delivery: Delivery,
    dead_letter: DeadLetterHeaders | None,
    worker: WorkerRuntime,
) -> None:
    """
    Record the job of a message that has no record, as a kiq would have done.

    A duplicate is acked, and the log names the job that it duplicates. A dead letter begins the
    round after the one that it ended; as a duplicate it stays a dead letter (`UniqueTaken`).
    Raises `UsageError`, `NotOurs`.
    """
    try:
        insert = _insert_of(task, message, delivery, dead_letter, worker)
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # of a contract's own validator: the message would come back for ever
        problem = f"they cannot be checked: {type(error).__name__}"
        raise InvalidArguments(task.contract.name, [problem]) from error
    inserted = await insert_job(insert, worker.runtime)
    if inserted.job.id != insert.job.id:
        if dead_letter is not None:
            raise UniqueTaken(str(insert.job.unique_key), inserted.job.id)
        log.warning("message.deduplicated", job_id=message.job_id, first_job_id=inserted.job.id)
        delivery.ack()
        raise NotOurs
    log.info("message.adopted", job_id=message.job_id, task=message.task)


def _insert_of(
    task: JobTask[Any, Any],
    message: JobMessage,
    delivery: Delivery,
    dead_letter: DeadLetterHeaders | None,
    worker: WorkerRuntime,
) -> Insert:
    """The insert that a kiq of this message would make. Raises whatever a validator raises."""
    submission = submission_of(to_taskiq(message), task.contract, from_json=True)
    options = replace(submission.options, queue=delivery.queue.name)
    if dead_letter is not None:
        options = replace(
            options,
            owner=dead_letter.owner or options.owner,
            correlation_id=dead_letter.correlation_id or options.correlation_id,
            priority=options.priority or min(delivery.priority, MAX_PRIORITY),
        )
    submission = replace(submission, options=options)
    insert = new_job(submission, worker.runtime.topology, worker.settings)
    if dead_letter is not None:
        insert = replace(insert, job=replace(insert.job, round=(dead_letter.round or 0) + 1))
    return insert
