"""Jobs made of foreign messages, and of dead letters that were moved back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog

from api_shared.client.bind.task import JobTask
from api_shared.client.dead_letters.dead_letter import has_ended
from api_shared.client.dead_letters.requeue import requeue
from api_shared.client.formatter import to_message
from api_shared.client.kiq import enter
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
    Whether this message has made a job to be claimed of what was none: a foreign one that was
    recorded, or a dead letter that somebody moved back to its queue. Raises `UsageError`.
    """
    mark = dead_letter_headers_of(delivery.headers)
    if job is None:
        if delivery.headers.get(ACCEPTED) and mark is None:
            return False
        await _adopt(task, message, delivery, mark, worker)
        return True
    if mark is None or job.task != message.task or not has_ended(job, mark):
        return False
    await requeue(job, worker.runtime, why="dead letter moved back")
    return True


async def _adopt(
    task: JobTask[Any, Any],
    message: JobMessage,
    delivery: Delivery,
    mark: DeadLetterHeaders | None,
    worker: WorkerRuntime,
) -> None:
    """
    Record the job of a message that has no record, as a kiq would have: one that is a duplicate is
    done with, as a kiq's would be, and the log says whose. A dead letter goes on with the round
    after the one it ended, or is kept (`UniqueTaken`). Raises `UsageError`, `NotOurs`.
    """
    try:
        insert = _insert_of(task, message, delivery, mark, worker)
    except UsageError:
        raise
    except Exception as error:  # of the contract's own validators: it would come back for ever
        problem = f"they cannot be checked: {type(error).__name__}"
        raise InvalidArguments(task.contract.name, [problem]) from error
    inserted = await enter(insert, worker.runtime)
    if inserted.job.id != insert.job.id:
        if mark is not None:
            raise UniqueTaken(str(insert.job.unique_key), inserted.job.id)
        log.warning("message.deduplicated", job_id=message.job_id, first_job_id=inserted.job.id)
        delivery.ack()
        raise NotOurs
    log.info("message.adopted", job_id=message.job_id, task=message.task)


def _insert_of(
    task: JobTask[Any, Any],
    message: JobMessage,
    delivery: Delivery,
    mark: DeadLetterHeaders | None,
    worker: WorkerRuntime,
) -> Insert:
    """What a kiq of this message would ask the ledger for. Raises whatever a validator raises."""
    submission = submission_of(to_message(message), task.contract)
    options = replace(submission.options, queue=delivery.queue.name)
    if mark is not None:
        options = replace(
            options,
            owner=mark.owner or options.owner,
            correlation_id=mark.correlation_id or options.correlation_id,
            priority=options.priority or min(delivery.priority, MAX_PRIORITY),
        )
    submission = replace(submission, options=options)
    insert = new_job(submission, worker.runtime.topology, worker.settings)
    if mark is not None:
        insert = replace(insert, job=replace(insert.job, round=(mark.round or 0) + 1))
    return insert
