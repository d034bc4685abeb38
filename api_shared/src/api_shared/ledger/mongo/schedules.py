"""Records of schedules in MongoDB: a small collection, changed by compare-and-set on `seq`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pymongo
import structlog
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.errors import DuplicateKeyError

from api_shared.ledger.mongo.documents import Document
from api_shared.ledger.mongo.errors import ledger_errors
from api_shared.ledger.mongo.indexes import HAS_DUE_AT
from api_shared.schedules.schedule import (
    Declaration,
    Definition,
    Missed,
    Overlap,
    ScheduleRecord,
)
from api_shared.schedules.store import ScheduleStore, UnreadableSchedule

ANSWER_S = 5.0

log = structlog.get_logger(__name__)

_WORDING = ("broker", "task", "queue", "args_json", "cron", "every_s", "zone", "catch_up_s",
            "priority", "owner")  # fmt: skip
"""Fields of `Definition` that are stored as they are."""
_STATE = ("cursor", "due_at", "paused", "is_waiting", "last_tick_at", "last_job_id")
"""Fields of `ScheduleRecord` that are stored as they are."""


class MongoScheduleStore(ScheduleStore):
    def __init__(self, schedules: AsyncIOMotorCollection[Document]) -> None:
        self._schedules = schedules

    async def now(self) -> datetime:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            hello = await self._schedules.database.client.admin.command("hello")
        time: datetime = hello["localTime"]
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time

    async def get(self, name: str) -> ScheduleRecord | None:
        for document in await self._read({"_id": {"$eq": name}}, {"_id": 1}):
            return record_of(document)
        return None

    async def find(self, broker: str | None = None) -> list[ScheduleRecord]:
        query: Document = {} if broker is None else {"broker": {"$eq": broker}}
        return _readable(await self._read(query, {"_id": 1}))

    async def due(self, broker: str) -> list[ScheduleRecord]:
        query = {
            "broker": {"$eq": broker},
            "due_at": HAS_DUE_AT,
            "$expr": {"$lte": ["$due_at", "$$NOW"]},
        }
        return _readable(await self._read(query, {"due_at": 1}))

    async def save(self, record: ScheduleRecord) -> ScheduleRecord | None:
        saved = replace(record, seq=record.seq + 1)
        document = document_of(saved)
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            if record.seq == 0:
                try:
                    await self._schedules.insert_one(document)
                except DuplicateKeyError:
                    return None
            else:
                guard = {"_id": {"$eq": record.name}, "seq": record.seq}
                answer = await self._schedules.replace_one(guard, document)
                if answer.matched_count == 0:
                    return None
        return saved if saved.read_at is not None else await self.get(record.name)

    async def delete(self, record: ScheduleRecord) -> bool:
        guard = {"_id": {"$eq": record.name}, "seq": record.seq}
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            return (await self._schedules.delete_one(guard)).deleted_count == 1

    async def _read(self, query: Document, sort: Document) -> list[Document]:
        stages: list[Document] = [
            {"$match": query},
            {"$sort": sort},
            {"$addFields": {"read_at": "$$NOW"}},
        ]
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            documents: list[Document] = await self._schedules.aggregate(stages).to_list(None)
        return documents


def document_of(record: ScheduleRecord) -> Document:
    """The document of a record. Fields that are None or empty are left out."""
    definition = record.definition
    fields: Document = {"_id": record.name, "seq": record.seq}
    fields |= {name: getattr(definition, name) for name in _WORDING}
    fields |= {"missed": definition.missed.value, "overlap": definition.overlap.value}
    # Pairs, because the name of a label may hold dots, dollars and any other character.
    fields["labels"] = [[name, text] for name, text in definition.labels.items()]
    fields |= {name: getattr(record, name) for name in _STATE}
    fields["pending"] = list(record.pending)
    fields["declared"] = [
        {"digest": each.digest, "first_at": each.first_at, "seen_at": each.seen_at}
        for each in record.declared
    ]
    return {name: value for name, value in fields.items() if value is not None and value != []}


def record_of(document: Mapping[str, Any]) -> ScheduleRecord:
    """The record of a document. Raises `UnreadableSchedule` if another release has written it."""
    try:
        return _record_of(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableSchedule(document["_id"], f"{type(error).__name__}: {error}") from None


def _record_of(document: Mapping[str, Any]) -> ScheduleRecord:
    get = document.get
    return ScheduleRecord(
        Definition(
            name=document["_id"],
            missed=Missed(document["missed"]),
            overlap=Overlap(document["overlap"]),
            labels=dict(get("labels", ())),
            **{name: document[name] for name in _WORDING if name in document},
        ),
        seq=document["seq"],
        pending=tuple(get("pending", ())),
        declared=tuple(Declaration(**each) for each in get("declared", ())),
        read_at=get("read_at"),
        **{"due_at": None, **{name: document[name] for name in _STATE if name in document}},
    )


def _readable(documents: Iterable[Document]) -> list[ScheduleRecord]:
    """The record, or None if this release cannot read it."""
    records = []
    for document in documents:
        try:
            records.append(record_of(document))
        except UnreadableSchedule as error:
            log.warning("schedule.unreadable", schedule=error.name, error=str(error))
    return records
