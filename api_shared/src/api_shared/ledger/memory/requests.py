"""Recorded requests in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bson import ObjectId

from api_shared.ledger.requests import (
    CAN_BE_TAKEN_OVER,
    RecordedRequest,
    RecordedRequests,
    RecordExists,
    RecordStatus,
    as_stored,
)


class MemoryRequests(RecordedRequests):
    """Requests for one event loop. `put` writes a record as another program would."""

    def __init__(self) -> None:
        self._records: dict[str, RecordedRequest] = {}

    def put(self, record: RecordedRequest) -> None:
        self._records[_key(record.id)] = record

    async def add(
        self, record_id: str, kind: str, request: Mapping[str, Any], owner: str | None
    ) -> None:
        there = await self.get(record_id)
        asked = RecordedRequest(_key(record_id), kind, as_stored(request), owner)
        if there is None:
            self.put(asked)
        elif (there.kind, there.request, there.owner) != (kind, asked.request, owner):
            raise RecordExists(record_id)

    async def get(self, record_id: str) -> RecordedRequest | None:
        return self._records.get(_key(record_id))

    async def begin(
        self, record_id: str, job_id: str, *, after: str | None = None
    ) -> RecordedRequest | None:
        there = await self.get(record_id)
        if there is None:
            return None
        is_free = there.job_id in (None, job_id, after) or there.status in CAN_BE_TAKEN_OVER
        if is_free and there.status != RecordStatus.COMPLETED:
            there = replace(there, job_id=job_id, status=RecordStatus.PROCESSING, error=None)
            self.put(there)
        return there

    async def end(
        self,
        record_id: str,
        job_id: str,
        status: RecordStatus,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        there = await self.get(record_id)
        if there is None or there.job_id != job_id or there.status == RecordStatus.COMPLETED:
            return False
        kept = None if result is None else json.loads(json.dumps(result))
        self.put(replace(there, status=status, result=kept, error=error))
        return True


def _key(record_id: str) -> str:
    """The key of a record: an ObjectId is written in lower case."""
    return str(ObjectId(record_id)) if ObjectId.is_valid(record_id) else record_id
