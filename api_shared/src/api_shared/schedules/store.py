"""Where the records of schedules are kept, and what people do with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from api_shared.errors import InvalidOption, UsageError
from api_shared.schedules.planning import is_in_force, paused, resumed
from api_shared.schedules.schedule import Definition, ScheduleRecord


class UnknownSchedule(UsageError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"no schedule named {name!r}; known: {', '.join(self.known) or 'none'}")


class UnreadableSchedule(UsageError):
    """Another release has written it: it is left to those that understand it."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"the schedule {name!r} was written by another release ({why})")


class ScheduleStore(Protocol):
    """Raises `LedgerUnavailable`; after that, whether a write was done is told by a read."""

    async def now(self) -> datetime:
        """The ledger's clock."""

    async def get(self, name: str) -> ScheduleRecord | None:
        """Raises `UnreadableSchedule`; the others leave such a one out."""

    async def find(self, broker: str | None = None) -> list[ScheduleRecord]:
        """By name; without a broker: all."""

    async def due(self, broker: str) -> list[ScheduleRecord]:
        """Those at which somebody must look now, the longest overdue first."""

    async def save(self, record: ScheduleRecord) -> ScheduleRecord | None:
        """
        Compare-and-set: only where the stored `seq` is still the record's (0: where there is no
        record of its name). As it was saved, or None: another one was faster.
        """

    async def delete(self, record: ScheduleRecord) -> bool:
        """Only where the stored `seq` is still the record's."""


async def find_schedule(name: str, book: ScheduleStore) -> ScheduleRecord:
    """Raises `UnknownSchedule`."""
    record = await book.get(name)
    if record is None:
        raise UnknownSchedule(name, [each.name for each in await book.find()])
    return record


async def change_schedule(
    name: str, change: Callable[[ScheduleRecord], ScheduleRecord], book: ScheduleStore
) -> ScheduleRecord:
    """Raises `UnknownSchedule`."""
    while True:
        record = await find_schedule(name, book)
        changed = change(record)
        if changed == record:
            return record
        saved = await book.save(changed)
        if saved is not None:
            return saved


async def pause_schedule(name: str, book: ScheduleStore) -> ScheduleRecord:
    """Raises `UnknownSchedule`."""
    return await change_schedule(name, paused, book)


async def resume_schedule(name: str, book: ScheduleStore) -> ScheduleRecord:
    """It ticks from now on. Raises `UnknownSchedule`."""
    return await change_schedule(name, resumed, book)


async def put_schedule(
    definition: Definition,
    book: ScheduleStore,
    carry_out: Callable[[ScheduleRecord], Awaitable[None]],
) -> ScheduleRecord:
    """
    Keep a schedule that stays until it is removed; one of its name that was made the same way is
    replaced, and ticks by the new definition from now on. What the old one has decided is its own
    to be carried out. Raises `InvalidOption`, and what `carry_out` raises.
    """
    while True:
        record = await book.get(definition.name)
        if record is None:
            now = await book.now()
            fresh = ScheduleRecord(definition, cursor=now, due_at=now)
        else:
            _refuse_declared(record)
            if record.definition == definition:
                return record
            if record.pending:
                await carry_out(record)
                continue
            cursor = max(record.cursor, record.now)
            due_at = None if record.paused else record.now
            fresh = replace(record, definition=definition, cursor=cursor, due_at=due_at)
        saved = await book.save(fresh)
        if saved is not None:
            return saved


async def remove_schedule(name: str, book: ScheduleStore) -> None:
    """Raises `UnknownSchedule`; `InvalidOption` for one that a contract still declares."""
    while True:
        record = await find_schedule(name, book)
        if is_in_force(record):
            _refuse_declared(record)
        if await book.delete(record):
            return


async def remove_forgotten(book: ScheduleStore, *, older_than: timedelta) -> int:
    """Remove the records of schedules that no worker has declared for so long; how many."""
    removed = 0
    for record in await book.find():
        last_seen = max((each.seen_at for each in record.declared), default=record.now)
        if record.now - last_seen > older_than:
            removed += await book.delete(record)
    return removed


def _refuse_declared(record: ScheduleRecord) -> None:
    if record.declared:
        wanted = (
            f"the contract of task {record.definition.task!r} declares it: change it there, or "
            f"kiq cron pause {record.name}"
        )
        raise InvalidOption("schedule", record.name, wanted)
