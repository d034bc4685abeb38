"""
Periodic jobs: the schedules of this worker's contracts are declared, and their due ticks fired.

This runs in every worker process, without a leader. Each tick is decided by compare-and-set on its
schedule's record, and the id of its job derives from the schedule and the planned time. This
machine's clock is not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any

import structlog

from api_shared.client.contract import Contract
from api_shared.client.periodic import carry_out, definitions_of
from api_shared.client.runtime import Runtime
from api_shared.errors import LedgerUnavailable, ServerError, UsageError
from api_shared.schedules.planning import (
    DECLARE_EVERY,
    decide,
    declared,
    is_declared_lately,
    is_in_force,
    must_take_over,
    new_record,
    stopped,
    taken_over,
    ticks_to_fire,
)
from api_shared.schedules.schedule import Definition, Overlap, ScheduleRecord
from api_shared.schedules.store import ScheduleStore

log = structlog.get_logger()


@dataclass(slots=True)
class PeriodicJobs:
    """
    Runs for ever in `run`. `contracts` returns the contracts whose schedules this process declares.
    """

    runtime: Runtime
    contracts: Callable[[], Iterable[Contract[Any, Any]]]
    rng: Random
    _declare_at: float = 0.0
    _ours: dict[str, Definition] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            busy = False
            try:
                if monotonic() >= self._declare_at:
                    await self.declare()
                    pause_s = DECLARE_EVERY.total_seconds() * self.rng.uniform(0.8, 1.0)
                    self._declare_at = monotonic() + pause_s
                busy = await self.tick_once()
            except LedgerUnavailable as error:
                log.debug("ticker.ledger_away", error=str(error))
            except Exception:
                log.exception("ticker.failed")
            if not busy:
                every_s = self.runtime.settings.dispatch_every_s
                await asyncio.sleep(every_s * self.rng.uniform(0.8, 1.2))

    async def declare(self) -> None:
        """
        Declare the schedules that this worker knows. Raises `UsageError` if its contracts are
        wrong, and `LedgerUnavailable`.
        """
        topology, settings = self.runtime.topology, self.runtime.settings
        definitions = definitions_of(self.contracts(), topology, settings)
        self._ours = {definition.name: definition for definition in definitions}
        for definition in definitions:
            with _others_go_on(definition.name):
                await self._declare(definition)

    async def tick_once(self) -> bool:
        """Fire the ticks that are due. True: there may be more. Raises `LedgerUnavailable`."""
        busy = False
        for record in await self._store.due(self.runtime.topology.broker):
            with _others_go_on(record.name):
                busy = await self.settle(record) or busy
        return busy

    async def settle(self, record: ScheduleRecord) -> bool:
        """
        Decide the ticks that are due and carry the decision out. True: there may be more to do.

        A schedule may not have been declared for long, because all workers or the ledger were down.
        It is declared again if this worker knows it, and stops if it does not. Raises
        `ServerError`.
        """
        if not record.pending and not is_in_force(record):
            if ours := self._ours.get(record.name):
                await self._declare(ours)
                return True
            log.info("schedule.stopped", schedule=record.name)
            await self._store.save(stopped(record))
            return False
        return await self._settle(record)

    async def _settle(self, record: ScheduleRecord) -> bool:
        if not record.pending:
            decided = await self._decide(record)
            if decided is None or not decided.pending:
                return False
            record = decided
        await carry_out(record, self.runtime)
        return True

    async def _decide(self, record: ScheduleRecord) -> ScheduleRecord | None:
        ticks = ticks_to_fire(record)
        is_running = bool(ticks) and await self._is_running(record)
        decision = decide(record, ticks, is_running=is_running)
        saved = await self._store.save(decision.record)
        if saved is not None and decision.left_out:
            log.info("tick.left_out", schedule=record.name, running=record.last_job_id)
        return saved

    async def _is_running(self, record: ScheduleRecord) -> bool:
        if record.definition.overlap is Overlap.ALLOW or record.last_job_id is None:
            return False
        job = await self.runtime.ledger.get(record.last_job_id)
        return job is not None and not job.status.is_terminal

    async def _declare(self, definition: Definition) -> None:
        while not await self._try_to_declare(definition):
            continue

    async def _try_to_declare(self, definition: Definition) -> bool:
        """False: another worker was faster; read again."""
        record = await self._store.get(definition.name)
        if record is None:
            now = await self._store.now()
            return await self._store.save(new_record(definition, now)) is not None
        if not record.declared or record.definition.broker != definition.broker:
            of = f"task {record.definition.task!r} of broker {record.definition.broker!r}"
            log.error("schedule.name_taken", schedule=record.name, by=of)
            return True
        if must_take_over(record, definition):
            return await self._take_over(record, definition)
        if is_declared_lately(record, definition):
            return True
        return await self._store.save(declared(record, definition)) is not None

    async def _take_over(self, record: ScheduleRecord, definition: Definition) -> bool:
        """False: read again. Ticks that are due by the old definition are fired first."""
        if record.pending or (not record.paused and ticks_to_fire(record)):
            await self._settle(record)
            after = await self._store.get(record.name)
            if after is None or not after.is_waiting:
                return False
            log.info("schedule.taken_over_later", schedule=record.name)
            return await self._store.save(declared(after, definition)) is not None
        if await self._store.save(taken_over(record, definition)) is None:
            return False
        log.info("schedule.taken_over", schedule=record.name)
        return True

    @property
    def _store(self) -> ScheduleStore:
        return self.runtime.ledger.schedules


@contextmanager
def _others_go_on(schedule: str) -> Iterator[None]:
    """Log an error of one schedule, which is tried again later, so that the others go on."""
    try:
        yield
    except LedgerUnavailable:
        raise
    except (ServerError, UsageError) as error:
        log.warning("schedule.later", schedule=schedule, error=str(error))
