"""From a submission to the record that the ledger is asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from api_shared.client.started_brokers import Submission
from api_shared.client.unique import SCOPES
from api_shared.client.when import MAX_DELAY, when
from api_shared.errors import InvalidArguments, InvalidOption, TooLarge
from api_shared.job import Job, Status, UniqueScope, new_job_id, parse_job_id
from api_shared.json_text import MAX_DEPTH, is_too_deep
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import Insert
from api_shared.settings import Settings
from api_shared.transport.message import labels_problem
from api_shared.transport.topology import MAX_PRIORITY, Topology

MAX_NAME = 200


def new_job(submission: Submission[Any, Any], topology: Topology, settings: Settings) -> Insert:
    """The insert that a submission asks for, all of it validated. Raises `UsageError`."""
    contract, asked_at = submission.contract, datetime.now(UTC)
    priority = submission.priority
    if not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        raise InvalidOption("priority", priority, f"a whole number from 0 to {MAX_PRIORITY}")
    for option in ("owner", "correlation_id", "unique_key"):
        value = getattr(submission, option)
        if value is not None and not _is_name(value):
            raise InvalidOption(option, value, f"a text of 1 to {MAX_NAME} characters")
    due = when(submission.at, submission.delay, now=asked_at)
    is_later = submission.at is not None or bool(submission.delay)
    args_json = _checked_arguments(submission, settings)
    if problem := labels_problem(submission.labels):
        raise InvalidOption("labels", sorted(submission.labels)[:5], problem)
    key = _unique_key(submission, args_json)
    scope, period_s = _unique_for(submission, key)
    job = Job(
        id=new_job_id() if submission.job_id is None else parse_job_id(submission.job_id),
        task=contract.name,
        broker=topology.broker,
        queue=topology.queue(submission.queue or contract.queue).name,
        args_json=args_json,
        status=Status.SCHEDULED if is_later else Status.QUEUED,
        seq=1,
        accepted_at=asked_at,
        priority=priority,
        owner=submission.owner,
        correlation_id=submission.correlation_id,
        labels=dict(submission.labels),
        unique_key=key,
        unique_scope=scope,
        unique_held=None if key is None else True,
    )
    look_in = NowPlus(settings.republish_after_s)
    return Insert(job, due if due is not None and is_later else look_in, period_s)


def _is_name(value: object) -> bool:
    """Text that every store can hold, which a lone surrogate cannot be in."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked_arguments(submission: Submission[Any, Any], settings: Settings) -> str:
    """As JSON text. Raises `InvalidArguments`, `TooLarge`."""
    contract = submission.contract
    args_json = contract.encode_args(contract.parse([submission.args], {}))
    limit = settings.max_arguments_bytes
    if len(args_json) > limit:
        raise TooLarge(
            f"arguments of {contract.name}", len(args_json), limit, "MAX_ARGUMENTS_BYTES"
        )
    if is_too_deep(args_json):
        raise InvalidArguments(contract.name, [f"nested deeper than {MAX_DEPTH}"])
    return args_json


def _unique_key(submission: Submission[Any, Any], args_json: str) -> str | None:
    """Its own, or what the contract makes of its arguments; None: it is not unique."""
    unique = submission.contract.unique
    if submission.unique_key is not None or unique is None:
        return submission.unique_key
    return unique.key_of(json.loads(args_json))


def _unique_for(
    submission: Submission[Any, Any], key: str | None
) -> tuple[UniqueScope | None, float | None]:
    """How long the key is held, and the seconds of a period. Raises `InvalidOption`."""
    asked, unique = submission.unique_for, submission.contract.unique
    if key is None:
        if asked is not None:
            raise InvalidOption("unique_for", asked, "it goes with a `unique_key`")
        return None, None
    unique_for = asked
    if unique_for is None:
        unique_for = unique.unique_for if unique else "open"
    if not isinstance(unique_for, timedelta):
        if unique_for not in SCOPES:
            wanted = f"a timedelta, or one of {', '.join(SCOPES)}"
            raise InvalidOption("unique_for", unique_for, wanted)
        return UniqueScope(unique_for), None
    if not timedelta(0) < unique_for <= MAX_DELAY:
        wanted = f"more than 0, at most {MAX_DELAY.days} days"
        raise InvalidOption("unique_for", unique_for, wanted)
    return UniqueScope.PERIOD, unique_for.total_seconds()
