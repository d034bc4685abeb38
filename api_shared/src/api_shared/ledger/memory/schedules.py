"""Records of schedules in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from api_shared.schedules.schedule import ScheduleRecord
from api_shared.schedules.store import ScheduleStore


class MemoryScheduleStore(ScheduleStore):
    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._records: dict[str, ScheduleRecord] = {}

    async def now(self) -> datetime:
        return self._now()

    async def get(self, name: str) -> ScheduleRecord | None:
        record = self._records.get(name)
        return None if record is None else replace(record, read_at=self._now())

    async def find(self, broker: str | None = None) -> list[ScheduleRecord]:
        now = self._now()
        return [
            replace(record, read_at=now)
            for _, record in sorted(self._records.items())
            if broker is None or record.definition.broker == broker
        ]

    async def due(self, broker: str) -> list[ScheduleRecord]:
        due = [
            (record.due_at, record)
            for record in await self.find(broker)
            if record.due_at is not None and record.due_at <= record.now
        ]
        return [record for _, record in sorted(due, key=lambda pair: pair[0])]

    async def save(self, record: ScheduleRecord) -> ScheduleRecord | None:
        stored = self._records.get(record.name)
        if record.seq != (0 if stored is None else stored.seq):
            return None
        self._records[record.name] = replace(record, seq=record.seq + 1)
        return await self.get(record.name)

    async def delete(self, record: ScheduleRecord) -> bool:
        stored = self._records.get(record.name)
        if stored is None or stored.seq != record.seq:
            return False
        del self._records[record.name]
        return True
