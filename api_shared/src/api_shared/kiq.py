"""The one door in: validate, write the ledger, publish."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from api_shared.amqp.link import RabbitUnavailable
from api_shared.amqp.publisher import Outbox
from api_shared.amqp.topology import MAX_PRIORITY, Topology
from api_shared.contracts.door import Submission
from api_shared.errors import (
    InvalidArguments,
    InvalidOption,
    JobIdTaken,
    NaiveDatetime,
    TooLarge,
    Unroutable,
)
from api_shared.job import Job, Status, new_job_id, parse_job_id
from api_shared.ledger import Ledger
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import Insert
from api_shared.notifier import Notifier, status_event
from api_shared.settings import Settings
from api_shared.wire import MAX_DEPTH, is_too_deep, labels_problem

log = structlog.get_logger()

MAX_NAME = 200
MAX_DELAY = timedelta(days=3660)


@dataclass(frozen=True, slots=True)
class Backing:
    """What stands behind a broker in this process."""

    settings: Settings
    topology: Topology
    ledger: Ledger
    notifier: Notifier
    outbox: Outbox


async def accept(submission: Submission[Any, Any], backing: Backing) -> Job:
    """
    Accept a job: when this returns it is in the ledger, and published or soon published.

    Ends in one of three ways: the job; an error with nothing kept (`UsageError`, `Unroutable`,
    `LedgerUnavailable`); `AcceptanceUnknown`.
    """
    job = record_of(submission, backing.topology, backing.settings)
    insert = Insert(job, _due(submission, backing.settings))
    inserted = await backing.ledger.apply(insert, deadline_s=backing.settings.kiq_deadline_s)
    if not inserted.by_us:
        return _same_job(job, inserted.job)
    try:
        if job.status is Status.QUEUED:
            await backing.outbox.publish_job(inserted.job)
    except RabbitUnavailable as error:
        log.info("kiq.publish_later", job_id=job.id, task=job.task, error=str(error))
    except Unroutable:
        await backing.ledger.withdraw(job.id, insert.change.change_id)
        raise
    backing.notifier.tell(status_event(inserted.job))
    return inserted.job


def record_of(submission: Submission[Any, Any], topology: Topology, settings: Settings) -> Job:
    """The record a submission asks for, all of it validated. Raises `UsageError`."""
    contract = submission.contract
    priority = submission.priority
    if not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        raise InvalidOption("priority", priority, f"a whole number from 0 to {MAX_PRIORITY}")
    for option in ("owner", "correlation_id"):
        value = getattr(submission, option)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= MAX_NAME):
            raise InvalidOption(option, value, f"a text of 1 to {MAX_NAME} characters")
    scheduled = _check_time(submission)
    args_json = contract.encode_args(contract.parse([submission.args], {}))
    limit = settings.max_arguments_bytes
    if len(args_json) > limit:
        raise TooLarge(
            f"arguments of {contract.name}", len(args_json), limit, "MAX_ARGUMENTS_BYTES"
        )
    if is_too_deep(args_json):
        raise InvalidArguments(contract.name, [f"nested deeper than {MAX_DEPTH}"])
    if problem := labels_problem(submission.labels):
        raise InvalidOption("labels", sorted(submission.labels)[:5], problem)
    return Job(
        id=new_job_id() if submission.job_id is None else parse_job_id(submission.job_id),
        task=contract.name,
        broker=topology.broker,
        queue=topology.queue(submission.queue or contract.queue).name,
        args_json=args_json,
        status=Status.SCHEDULED if scheduled else Status.QUEUED,
        seq=1,
        accepted_at=datetime.now(UTC),
        priority=priority,
        owner=submission.owner,
        correlation_id=submission.correlation_id,
        labels=dict(submission.labels),
    )


def _check_time(submission: Submission[Any, Any]) -> bool:
    """Whether the job is for later. Raises `NaiveDatetime`, `InvalidOption`."""
    at, delay = submission.at, submission.delay
    if at is not None and delay is not None:
        raise InvalidOption("at", at, "either `at` or `delay`, not both")
    if at is not None and at.tzinfo is None:
        raise NaiveDatetime("at", at)
    if delay is not None and not timedelta(0) <= delay <= MAX_DELAY:
        raise InvalidOption("delay", delay, f"from 0 to {MAX_DELAY.days} days")
    return at is not None or bool(delay)


def _due(submission: Submission[Any, Any], settings: Settings) -> NowPlus | datetime:
    if submission.at is not None:
        return submission.at
    if submission.delay:
        return NowPlus(submission.delay.total_seconds())
    return NowPlus(settings.republish_after_s)


def _same_job(asked: Job, there: Job) -> Job:
    """A job accepted twice is one job, if it is the same request. Raises `JobIdTaken`."""
    same_args = json.loads(asked.args_json) == json.loads(there.args_json)
    if asked.task != there.task or not same_args:
        raise JobIdTaken(asked.id, there.task)
    return there
