"""
Changes of a schedule's record, as pure functions whose results are saved by compare-and-set.

A tick is first decided, then carried out. The decision moves the cursor and stays in `pending`
until its jobs are in the ledger. A worker that finds a decision that was not carried out does so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from api_shared.schedules.schedule import (
    Declaration,
    Definition,
    Missed,
    Overlap,
    ScheduleRecord,
    tick_id,
)

ON_TIME = timedelta(seconds=60)
"""A tick that is later than this was missed."""
MOST_AT_ONCE = 100
"""The most ticks that one decision fires."""
CARRIED_OUT_WITHIN = timedelta(seconds=5)
"""After this time another worker carries out a decision."""
LOOK_WHILE_WAITING = timedelta(seconds=1)
DECLARE_EVERY = timedelta(seconds=60)
DECLARED_FOR = timedelta(seconds=180)
"""A definition that no worker has declared for so long is not in force any more."""


@dataclass(frozen=True, slots=True)
class Decision:
    record: ScheduleRecord
    left_out: int
    """Ticks that were skipped because the previous run had not ended; several can count as 1."""


def new_record(definition: Definition, now: datetime) -> ScheduleRecord:
    """The record of a schedule at its first declaration: it ticks from now on."""
    declared = (Declaration(definition.digest, now, now),)
    return ScheduleRecord(definition, cursor=now, due_at=now, declared=declared)


def ticks_to_fire(record: ScheduleRecord) -> list[datetime]:
    """The ticks that are due and not dropped by the policy for missed ticks, the oldest first."""
    definition, now = record.definition, record.now
    on_time_only = definition.missed is Missed.SKIP and not record.is_waiting
    window = min(ON_TIME, definition.catch_up) if on_time_only else definition.catch_up
    after = max(record.cursor, now - window)
    if definition.missed is Missed.ALL:
        most = MOST_AT_ONCE if definition.overlap is Overlap.ALLOW else 1
        return list(islice(_ticks(definition, after, now), most))
    last = definition.timing.last_between(after, now)
    return [] if last is None else [last]


def decide(record: ScheduleRecord, ticks: list[datetime], *, is_running: bool) -> Decision:
    """`ticks` are those of `ticks_to_fire`. `is_running`: the last run has not ended."""
    overlap = record.definition.overlap
    if ticks and is_running and overlap is Overlap.WAIT:
        due_at = record.now + LOOK_WHILE_WAITING
        return Decision(replace(record, is_waiting=True, due_at=due_at), 0)
    left_out = 0
    if is_running and overlap is Overlap.SKIP:
        ticks, left_out = [], len(ticks)
    all_settled = record.definition.missed is not Missed.ALL or not ticks
    cursor = max(record.cursor, record.now if all_settled else ticks[-1])
    decided = replace(record, cursor=cursor, is_waiting=False, pending=tuple(ticks))
    if not ticks:
        return Decision(replace(decided, due_at=decided.next_at), left_out)
    fired = replace(
        decided,
        last_tick_at=ticks[-1],
        last_job_id=tick_id(record.name, ticks[-1]),
        due_at=record.now + CARRIED_OUT_WITHIN,
    )
    return Decision(fired, 0)


def carried_out(record: ScheduleRecord) -> ScheduleRecord:
    """The record once the jobs of its pending ticks are in the ledger."""
    return replace(record, pending=(), due_at=record.next_at)


def is_in_force(record: ScheduleRecord) -> bool:
    """
    Whether the schedule may fire: it was made by a call, or a worker has declared it recently.
    """
    if not record.declared:
        return True
    return any(
        each.digest == record.definition.digest and _is_fresh(each, record.now)
        for each in record.declared
    )


def stopped(record: ScheduleRecord) -> ScheduleRecord:
    """The record when no worker declares it any more. The cursor stays until one does again."""
    return replace(record, due_at=None)


def must_take_over(record: ScheduleRecord, definition: Definition) -> bool:
    """
    Whether `definition` replaces the one in force: it was introduced later, or the other one is not
    declared any more. So a new release takes over at once. An old release that restarts beside it
    does not. After a rollback the old release takes over once the new one is gone.
    """
    if definition.digest == record.definition.digest:
        return False
    ours = _declaration(record, definition.digest)
    theirs = _declaration(record, record.definition.digest)
    return ours is None or theirs is None or ours.first_at > theirs.first_at


def declared(record: ScheduleRecord, definition: Definition) -> ScheduleRecord:
    """The record when a worker declares `definition`; old declarations are dropped."""
    now = record.now
    ours = _declaration(record, definition.digest)
    fresh = tuple(
        each
        for each in record.declared
        if _is_fresh(each, now) and each.digest != definition.digest
    )
    first_at = now if ours is None else ours.first_at
    after = replace(record, declared=(*fresh, Declaration(definition.digest, first_at, now)))
    if definition.digest == record.definition.digest and record.due_at is None:
        return replace(after, due_at=None if record.paused else now)
    return after


def is_declared_lately(record: ScheduleRecord, definition: Definition) -> bool:
    """
    Whether no declaration is needed: a worker has declared it recently, and it is due or paused.
    """
    ours = _declaration(record, definition.digest)
    if ours is None or record.now - ours.seen_at >= DECLARE_EVERY / 2:
        return False
    is_ours = definition.digest == record.definition.digest
    return not is_ours or record.paused or record.due_at is not None


def taken_over(record: ScheduleRecord, definition: Definition) -> ScheduleRecord:
    """
    The record when it ticks by `definition` from now on.

    The old definition decides earlier ticks: the record must have no due or pending ticks.
    """
    due_at = None if record.paused else record.now
    after = replace(record, definition=definition, cursor=max(record.cursor, record.now))
    return declared(replace(after, due_at=due_at, is_waiting=False), definition)


def paused(record: ScheduleRecord) -> ScheduleRecord:
    """The paused record. Decided ticks are still carried out."""
    return replace(record, paused=True, due_at=record.due_at if record.pending else None)


def resumed(record: ScheduleRecord) -> ScheduleRecord:
    """The resumed record. Ticks of the pause do not count as missed."""
    if not record.paused:
        return record
    now = record.now
    return replace(
        record, paused=False, cursor=max(record.cursor, now), due_at=now, is_waiting=False
    )


def _ticks(definition: Definition, after: datetime, until: datetime) -> Iterator[datetime]:
    tick = definition.timing.next_after(after)
    while tick is not None and tick <= until:
        yield tick
        tick = definition.timing.next_after(tick)


def _declaration(record: ScheduleRecord, digest: str) -> Declaration | None:
    """The declaration; None if there is none, or if it was not renewed in time."""
    return next(
        (e for e in record.declared if e.digest == digest and _is_fresh(e, record.now)), None
    )


def _is_fresh(declaration: Declaration, now: datetime) -> bool:
    return now - declaration.seen_at < DECLARED_FOR
