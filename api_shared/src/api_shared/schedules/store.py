"""The store of schedule records, and what operators do with schedules."""

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
    """Another release has written the schedule: only that release can read it."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(
            f"the schedule {name!r} was written by another release ({why}): use that, or upgrade"
        )


class ScheduleStore(Protocol):
    """Raises `LedgerUnavailable`. After that only a read shows whether a write was done."""

    async def now(self) -> datetime:
        """The ledger's clock."""

    async def get(self, name: str) -> ScheduleRecord | None:
        """Raises `UnreadableSchedule`. `find` and `due` leave such records out."""

    async def find(self, broker: str | None = None) -> list[ScheduleRecord]:
        """The records ordered by name, of one broker or of all."""

    async def due(self, broker: str) -> list[ScheduleRecord]:
        """The records that are due now, the longest overdue first."""

    async def save(self, record: ScheduleRecord) -> ScheduleRecord | None:
        """
        Save by compare-and-set: the stored `seq` must still be that of the record (0: there must be
        no record of its name). Returns the record as saved; None: another writer was faster.
        """

    async def delete(self, record: ScheduleRecord) -> bool:
        """Delete if the stored `seq` is still that of the record."""


async def find_schedule(name: str, store: ScheduleStore) -> ScheduleRecord:
    """Raises `UnknownSchedule`."""
    record = await store.get(name)
    if record is None:
        raise UnknownSchedule(name, [each.name for each in await store.find()])
    return record


async def change_schedule(
    name: str, change: Callable[[ScheduleRecord], ScheduleRecord], store: ScheduleStore
) -> ScheduleRecord:
    """Raises `UnknownSchedule`."""
    while True:
        record = await find_schedule(name, store)
        changed = change(record)
        if changed == record:
            return record
        saved = await store.save(changed)
        if saved is not None:
            return saved


async def pause_schedule(name: str, store: ScheduleStore) -> ScheduleRecord:
    """Raises `UnknownSchedule`."""
    return await change_schedule(name, paused, store)


async def resume_schedule(name: str, store: ScheduleStore) -> ScheduleRecord:
    """Let a paused schedule tick again from now on. Raises `UnknownSchedule`."""
    return await change_schedule(name, resumed, store)


async def put_schedule(
    definition: Definition,
    store: ScheduleStore,
    carry_out: Callable[[ScheduleRecord], Awaitable[None]],
) -> ScheduleRecord:
    """
    Store a schedule that stays until it is removed.

    It replaces a schedule of its name that was made the same way, whose pending ticks are carried
    out first. Raises `InvalidOption`, and what `carry_out` raises.
    """
    while True:
        record = await store.get(definition.name)
        if record is None:
            now = await store.now()
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
        saved = await store.save(fresh)
        if saved is not None:
            return saved


async def remove_schedule(name: str, store: ScheduleStore) -> None:
    """Raises `UnknownSchedule`, and `InvalidOption` if a contract still declares the schedule."""
    while True:
        record = await find_schedule(name, store)
        if is_in_force(record):
            _refuse_declared(record)
        if await store.delete(record):
            return


async def remove_forgotten(store: ScheduleStore, *, older_than: timedelta) -> int:
    """
    Remove the schedules that no worker has declared for `older_than`, and return their number.
    """
    removed = 0
    for record in await store.find():
        last_seen = max((each.seen_at for each in record.declared), default=record.now)
        if record.now - last_seen > older_than:
            removed += await store.delete(record)
    return removed


def _refuse_declared(record: ScheduleRecord) -> None:
    if record.declared:
        problem = (
            f"the contract of task {record.definition.task!r} declares it: change it there, or use "
            f"`kiq cron pause {record.name}`"
        )
        raise InvalidOption("schedule", record.name, problem)
