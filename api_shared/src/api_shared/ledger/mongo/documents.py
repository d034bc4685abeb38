"""Jobs as MongoDB documents, and changes as MongoDB updates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from bson import ObjectId

from api_shared.errors import UnreadableRecord
from api_shared.job import (
    Entry,
    Job,
    JobError,
    Progress,
    Reason,
    Status,
    UniqueScope,
    parse_job_id,
)
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
from api_shared.ledger.protocol import WorkerInfo

T = TypeVar("T")
Part = TypeVar("Part", Progress, JobError, Entry)

Document = dict[str, Any]

_STATIC = (
    "task", "broker", "queue", "args_json", "seq", "priority", "owner", "correlation_id", "round",
    "claim_no", "token", "worker", "attempt", "lost", "last_chance", "looks", "late_writes",
    "cancel_requested", "failure_told", "result_json", "unique_key", "unique_held", "streamed",
)  # fmt: skip
"""Fields of `Job` that are stored as they are; a field that is None is left out."""

_TIMES = ("due_at", "queued_at", "started_at", "ended_at", "expires_at", "unique_until",
          "keep_until")  # fmt: skip

_STATUSES, _SCOPES = frozenset(Status), frozenset(UniqueScope)


def object_id(job_id: str) -> ObjectId:
    """Raises `InvalidJobId`."""
    return ObjectId(parse_job_id(job_id))


def update_of(change: Change) -> tuple[Document, list[Document]]:
    """
    The query and the pipeline of a change.

    Values from outside are put under `$literal` or `$eq`, so that "$args" stays a string.
    """
    values: Document = dict.fromkeys(change.remove, "$$REMOVE")
    for name, put in change.put.items():
        values |= _expressions(name, put)
    pipeline: list[Document] = [{"$set": values}]
    if change.note is not None:
        # A stage of its own: it sees the fields as they are after the change.
        entry = {
            "seq": "$seq",
            "status": "$status",
            "at": "$$NOW",
            "change_id": {"$literal": change.change_id},
            "round": "$round",
            "claim_no": "$claim_no",
            "worker": "$worker",
            "note": {"$literal": change.note},
        }
        history = {"$concatArrays": [{"$ifNull": ["$history", []]}, [entry]]}
        pipeline.append({"$set": {"history": {"$slice": [history, -HISTORY_LIMIT]}}})
    return _query_of(change), pipeline


def upsert_of(operation: Insert) -> tuple[Document, list[Document]]:
    """The query and the pipeline that record a new job and do not change an existing one."""
    job, change = operation.job, operation.change
    static = _static_fields(job)
    times = {name: _expression(name, put) for name, put in change.put.items()}
    entry = {
        "seq": job.seq,
        "status": job.status.value,
        "at": "$$NOW",
        "change_id": {"$literal": change.change_id},
        "round": job.round,
        "claim_no": job.claim_no,
        "note": {"$literal": change.note},
    }
    new = {"$mergeObjects": [{"$literal": static}, {**times, "history": [entry]}]}
    is_new = {"$eq": [{"$type": "$status"}, "missing"]}
    pipeline: list[Document] = [{"$replaceWith": {"$cond": [is_new, new, "$$ROOT"]}}]
    return {"_id": static["_id"]}, pipeline


def job_of(document: Mapping[str, Any]) -> Job:
    """Fields that only a newer release knows are left out. Raises `UnreadableRecord`."""
    return _read("job", _job_of, document)


def worker_of(document: Mapping[str, Any]) -> WorkerInfo:
    """Fields that only a newer release knows are left out. Raises `UnreadableRecord`."""
    return _read("the report of worker", _worker_of, document)


def _read(what: str, read: Callable[[Mapping[str, Any]], T], document: Mapping[str, Any]) -> T:
    try:
        return read(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        seq = document.get("seq")
        raise UnreadableRecord(
            what,
            str(document["_id"]),
            f"{type(error).__name__}: {error}",
            seq=seq if isinstance(seq, int) else 0,
        ) from None


def _job_of(document: Mapping[str, Any]) -> Job:
    get = document.get
    return Job(
        id=str(document["_id"]),
        status=Status(document["status"]),
        accepted_at=document["accepted_at"],
        labels=dict(get("labels", ())),
        progress=_known(Progress, progress) if (progress := get("progress")) else None,
        error=_error_of(get("error")),
        unique_scope=UniqueScope(scope) if (scope := get("unique_scope")) in _SCOPES else None,
        history=tuple(
            _known(Entry, {**entry, "status": Status(entry["status"])})
            for entry in get("history", ())
            if entry["status"] in _STATUSES
        ),
        journal=dict(get("journal", {}).values()),
        usage=dict(get("usage", {})),
        **{name: document[name] for name in _STATIC if name in document},
        **{name: document[name] for name in _TIMES if name in document},
    )


def worker_pipeline(info: WorkerInfo) -> list[Document]:
    """The pipeline that replaces a worker's last report; `started_at` is the time of its first."""
    static = {
        "_id": info.id,
        "broker": info.broker,
        "host": info.host,
        "pid": info.pid,
        "queues": list(info.queues),
        "running": info.running,
        "buffered": [[queue, count] for queue, count in info.buffered.items()],
    }
    times = {"started_at": {"$ifNull": ["$started_at", "$$NOW"]}, "seen_at": "$$NOW"}
    return [{"$replaceWith": {"$mergeObjects": [{"$literal": static}, times]}}]


def _worker_of(document: Mapping[str, Any]) -> WorkerInfo:
    return WorkerInfo(
        id=document["_id"],
        broker=document["broker"],
        host=document["host"],
        pid=document["pid"],
        queues=tuple(document["queues"]),
        running=document["running"],
        buffered=dict(document["buffered"]),
        started_at=document["started_at"],
        seen_at=document["seen_at"],
    )


def now_plus(milliseconds: int) -> Document:
    return {"$add": ["$$NOW", milliseconds]}


def _static_fields(job: Job) -> Document:
    fields: Document = {"_id": object_id(job.id), "status": job.status.value}
    fields |= {name: value for name in _STATIC if (value := getattr(job, name)) is not None}
    if job.keep_until is not None:
        fields["keep_until"] = job.keep_until
    if job.unique_scope is not None:
        fields["unique_scope"] = job.unique_scope.value
    if job.labels:
        # Pairs, because the name of a label may hold dots, dollars and any other character.
        fields["labels"] = [[name, text] for name, text in job.labels.items()]
    return fields


def _query_of(change: Change) -> Document:
    query: Document = {"_id": object_id(change.job_id)}
    for name, expected in change.guard.items():
        if expected is NOW:
            # A missing time sorts before any other: without the type check it would be due.
            query[name] = {"$type": "date"}
            query["$expr"] = {"$lte": [f"${name}", "$$NOW"]}
        elif isinstance(expected, Below):
            query[name] = {"$lt": expected.limit}
        elif isinstance(expected, OneOf):
            query[name] = {"$in": [_stored(value) for value in expected.values]}
        else:
            query[name] = {"$eq": _stored(expected)}
    return query


def _expressions(name: str, put: Any) -> Document:
    if isinstance(put, PlusEach):
        return {f"{name}.{key}": _sum(f"{name}.{key}", more) for key, more in put.amounts.items()}
    if name != "journal":
        return {name: _expression(name, put)}
    # Under a digest, because a key may hold any characters; the pair keeps the key itself.
    return {
        f"journal.{hashlib.sha256(key.encode()).hexdigest()[:32]}": {"$literal": [key, value]}
        for key, value in put.items()
    }


def _expression(name: str, put: Any) -> Any:
    if put is NOW:
        return "$$NOW"
    if isinstance(put, NowPlus):
        then = now_plus(put.milliseconds)
        others = [f"${field}" for field in put.or_later]  # a missing field is less
        return {"$max": [then, *others]} if others else then
    if isinstance(put, KeepWhere):
        kept = {"$in": [f"${put.field}", sorted(_stored(value) for value in put.values)]}
        return {"$cond": [kept, f"${name}", "$$REMOVE"]}
    if isinstance(put, Plus):
        return _sum(name, put.amount)
    return {"$literal": _stored(put)}


def _sum(path: str, amount: int) -> Document:
    return {"$add": [{"$ifNull": [f"${path}", 0]}, amount]}


def _stored(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Progress):
        total = None if value.total is None else float(value.total)
        return {
            "done": float(value.done),
            "total": total,
            "stage": value.stage,
            "message": value.message,
        }
    if isinstance(value, JobError):
        return {
            "reason": value.reason.value,
            "type": value.type,
            "message": value.message,
            "traceback": value.traceback,
        }
    if value is None or isinstance(value, str | int | float | bool | datetime):
        return value
    raise TypeError(f"the ledger does not store a {type(value).__name__}")


def _error_of(document: Mapping[str, Any] | None) -> JobError | None:
    if document is None:
        return None
    return _known(JobError, {**document, "reason": Reason(document["reason"])})


def _known(part: type[Part], document: Mapping[str, Any]) -> Part:
    """The fields that this release knows."""
    names = part.__dataclass_fields__
    return part(**{name: value for name, value in document.items() if name in names})
