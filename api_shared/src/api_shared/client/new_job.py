"""The new job of a submission: its record, validated, as an insert into the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from api_shared.client.options import KiqOptions
from api_shared.client.submission import Submission
from api_shared.errors import InvalidOption, TooLarge
from api_shared.job import Job, Status, new_job_id, parse_job_id
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import Insert
from api_shared.settings import Settings
from api_shared.transport.message import labels_problem
from api_shared.transport.topology import MAX_PRIORITY, Topology

MAX_NAME = 200


def new_job(submission: Submission[Any, Any], topology: Topology, settings: Settings) -> Insert:
    """The insert of a submission. Everything in it is validated. Raises `UsageError`."""
    contract, options, asked_at = submission.contract, submission.options, datetime.now(UTC)
    _check(options)
    due = options.due(asked_at)
    args_json = _checked_arguments(submission, settings)
    hold = options.hold(contract.unique, args_json)
    job = Job(
        id=new_job_id() if options.job_id is None else parse_job_id(options.job_id),
        task=contract.name,
        broker=topology.broker,
        queue=topology.queue(options.queue or contract.queue).name,
        args_json=args_json,
        status=Status.QUEUED if due is None else Status.SCHEDULED,
        seq=1,
        accepted_at=asked_at,
        priority=options.priority,
        owner=options.owner,
        correlation_id=options.correlation_id,
        labels=dict(options.labels),
        unique_key=hold.key if hold else None,
        unique_scope=hold.scope if hold else None,
        unique_held=True if hold else None,
    )
    return Insert(job, due or NowPlus(settings.republish_after_s), hold.period_s if hold else None)


def _check(options: KiqOptions) -> None:
    """Raises `InvalidOption`."""
    priority = options.priority
    if not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        limits = f"must be a whole number from 0 to {MAX_PRIORITY}"
        raise InvalidOption("priority", priority, limits)
    for name in ("owner", "correlation_id", "unique_key"):
        value = getattr(options, name)
        if value is not None and not _is_name(value):
            raise InvalidOption(name, value, f"must be a text of 1 to {MAX_NAME} characters")
    if problem := labels_problem(options.labels):
        raise InvalidOption("labels", sorted(options.labels)[:5], problem)


def _is_name(value: object) -> bool:
    """Whether every store can hold the value: a text with a lone surrogate cannot be stored."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked_arguments(submission: Submission[Any, Any], settings: Settings) -> str:
    """The arguments as JSON text. Raises `InvalidArguments`, `TooLarge`."""
    contract = submission.contract
    args_json = contract.encode_args(contract.parse([submission.args], {}))
    limit = settings.max_arguments_bytes
    if len(args_json) > limit:
        raise TooLarge(
            f"arguments of {contract.name}", len(args_json), limit, "MAX_ARGUMENTS_BYTES"
        )
    return args_json
