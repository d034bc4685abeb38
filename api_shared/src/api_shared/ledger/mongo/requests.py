"""Recorded requests in MongoDB: the collection that other programs write into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import ReturnDocument

from api_shared.ledger.mongo.connection import Connection
from api_shared.ledger.mongo.documents import Document
from api_shared.ledger.mongo.errors import ledger_errors
from api_shared.ledger.requests import (
    CAN_BE_TAKEN_OVER,
    RecordedRequest,
    RecordedRequests,
    RecordExists,
    RecordStatus,
    as_stored,
)

ANSWER_S = 5.0
NAMES_A_JOB = ["string", "objectId"]
"""The types of a `job_id`. A record with another type has no job."""


class MongoRequests(RecordedRequests):
    """The collection of requests. An `_id` is a string, or an ObjectId that its hex names."""

    def __init__(self, connection: Connection) -> None:
        self._records = connection.requests

    async def add(
        self, record_id: str, kind: str, request: Mapping[str, Any], owner: str | None
    ) -> None:
        key = ObjectId(record_id) if ObjectId.is_valid(record_id) else record_id
        stored = as_stored(request)
        record: Document = {"kind": kind, "request": stored}
        if owner is not None:
            record["owner"] = owner
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            document = await self._records.find_one_and_update(
                {"_id": key},
                {"$setOnInsert": record},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        there = _record_of(document)
        if (there.kind, there.request, there.owner) != (kind, stored, owner):
            raise RecordExists(record_id)

    async def get(self, record_id: str) -> RecordedRequest | None:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            document = await self._records.find_one(_named(record_id))
        return None if document is None else _record_of(document)

    async def begin(
        self, record_id: str, job_id: str, *, after: str | None = None
    ) -> RecordedRequest | None:
        free: Document = _named(record_id) | {
            "status": {"$ne": RecordStatus.COMPLETED.value},
            "$or": [
                {"job_id": {"$not": {"$type": NAMES_A_JOB}}},
                {"job_id": {"$in": ["", *_ids(job_id), *_ids(after)]}},
                {"status": {"$in": [status.value for status in CAN_BE_TAKEN_OVER]}},
            ],
        }
        taken: Document = {
            "$set": {"job_id": job_id, "status": RecordStatus.PROCESSING.value},
            "$currentDate": {"started_at": True},
            "$unset": {"error": "", "ended_at": ""},
        }
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            document = await self._records.find_one_and_update(
                free, taken, return_document=ReturnDocument.AFTER
            )
        return await self.get(record_id) if document is None else _record_of(document)

    async def end(
        self,
        record_id: str,
        job_id: str,
        status: RecordStatus,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        ours: Document = _named(record_id) | {
            "job_id": {"$eq": job_id},
            "status": {"$ne": RecordStatus.COMPLETED.value},
        }
        written: Document = {"status": status.value}
        if result is not None:
            written["result"] = dict(result)
        if error is not None:
            written["error"] = error
        update: Document = {"$set": written, "$currentDate": {"ended_at": True}}
        if error is None:
            update["$unset"] = {"error": ""}
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            return (await self._records.update_one(ours, update)).matched_count == 1


def _named(record_id: str) -> Document:
    if not ObjectId.is_valid(record_id):
        return {"_id": {"$eq": record_id}}
    return {"_id": {"$in": [ObjectId(record_id), record_id]}}


def _ids(job_id: str | None) -> list[ObjectId | str]:
    """The forms of an id: as this platform writes it, and as another program may."""
    if job_id is None:
        return []
    return [job_id, ObjectId(job_id)] if ObjectId.is_valid(job_id) else [job_id]


def _record_of(document: Document) -> RecordedRequest:
    """The record of a document, whatever another program wrote. Wrong values are None or kept."""

    def text(name: str) -> str | None:
        value = document.get(name)
        return value if isinstance(value, str) else None

    result, job_id = document.get("result"), document.get("job_id")
    return RecordedRequest(
        id=str(document["_id"]),
        kind=document.get("kind"),
        request=document.get("request"),
        owner=text("owner"),
        status=text("status"),
        job_id=str(job_id) if isinstance(job_id, ObjectId) else text("job_id") or None,
        result=result if isinstance(result, dict) else None,
        error=text("error"),
    )
