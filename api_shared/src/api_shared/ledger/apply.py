"""Changes applied to a job in memory, with the meaning that they have in MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api_shared.job import Entry, Job, parse_job_id
from api_shared.ledger.change import (
    HISTORY_LIMIT,
    NOW,
    Below,
    Change,
    KeepWhere,
    NowPlus,
    OneOf,
    Plus,
    PlusEach,
)
from api_shared.ledger.operations import Insert
from api_shared.ledger.usage import added


def as_inserted(operation: Insert, now: datetime) -> Job:
    """The new job as the ledger records it at `now`."""
    fresh = replace(
        operation.job,
        id=parse_job_id(operation.job.id),
        labels=dict(operation.job.labels),
        due_at=None,
        queued_at=None,
        started_at=None,
        ended_at=None,
        expires_at=None,
        unique_until=None,
        history=(),
        journal={},
    )
    return changed(fresh, operation.change, now)


def matches(job: Job, guard: Mapping[str, Any], now: datetime) -> bool:
    """Whether the guard of a change lets it happen."""
    return all(_holds(getattr(job, name), expected, now) for name, expected in guard.items())


def _holds(value: Any, expected: Any, now: datetime) -> bool:
    if expected is NOW:
        return value is not None and bool(value <= now)
    if isinstance(expected, Below):
        return bool(value < expected.limit)
    if isinstance(expected, OneOf):
        return value in expected.values
    return bool(value == expected)


def changed(job: Job, change: Change, now: datetime) -> Job:
    """The job after the change, with the line that it adds to the history."""
    values: dict[str, Any] = {name: _when_missing(name) for name in change.remove}
    values |= {name: _value(job, name, put, now) for name, put in change.put.items()}
    job = replace(job, **values)
    if change.note is None:
        return job
    entry = Entry(
        seq=job.seq,
        status=job.status,
        at=now,
        change_id=change.change_id,
        round=job.round,
        claim_no=job.claim_no,
        worker=job.worker,
        note=change.note,
    )
    return replace(job, history=(*job.history, entry)[-HISTORY_LIMIT:])


def _when_missing(name: str) -> Any:
    field = Job.__dataclass_fields__[name]
    return field.default if field.default_factory is MISSING else field.default_factory()


def _value(job: Job, name: str, put: Any, now: datetime) -> Any:
    if put is NOW:
        return now
    if isinstance(put, NowPlus):
        then = now + timedelta(milliseconds=put.milliseconds)
        others = [getattr(job, field) for field in put.or_later]
        return max([then, *(other for other in others if other is not None)])
    if isinstance(put, KeepWhere):
        return getattr(job, name) if getattr(job, put.field) in put.values else None
    if isinstance(put, Plus):
        return getattr(job, name) + put.amount
    if isinstance(put, PlusEach):
        return added(getattr(job, name), put.amounts)
    if isinstance(put, datetime):
        return to_milliseconds(put)
    if name == "journal":
        return job.journal | put
    return put


def to_milliseconds(at: datetime) -> datetime:
    """As MongoDB keeps times."""
    return at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)
