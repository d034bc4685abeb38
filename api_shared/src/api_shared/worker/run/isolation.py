"""Isolation of suspects: a job that may have killed its worker runs alone in its process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from api_shared.backoff import backoff_s
from api_shared.job import Job
from api_shared.ledger.operations import TakeLastChance
from api_shared.ledger.protocol import Ledger
from api_shared.ledger.transitions import needs_last_chance
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.outcome import LostClaim, Snoozed
from api_shared.worker.run.stuck_tasks import StuckTasks

WAITS_TO_BE_ALONE = "one more loss would be its last: it runs alone"
ALONE_WAIT_S = 5.0
"""
How long such a job waits for the other jobs of its process to end. No new jobs start meanwhile.
"""
ALONE_AGAIN_S = (0.25, 30.0)
"""After how long it tries again: at first, and at most. The time doubles with each try."""
ALONE_TRIES = 12
"""
After so many tries (about four minutes) it runs beside other jobs, so that long jobs cannot starve
it. It never runs beside a job that runs alone.
"""
STILL_RUNS = "an earlier run of it goes on in this process"
ELSEWHERE_S = 0.5
"""After how long a job that cannot run in this process is published for another one."""


class Pausable(Protocol):
    """A consumer, as far as the run of a job may use it."""

    def pause(self, seconds: float) -> None:
        """Take no more messages for a while."""

    def held(self) -> AbstractContextManager[None]:
        """Take no messages within this block."""


class Isolation:
    """
    Decides which job may run now, and beside which others.

    A job that would fail if it were lost again runs alone in its process. If it kills its worker,
    it harms no other job, and no other job can be the cause. The ledger notes its last chance just
    before it runs, so that a worker that dies while the job waits does not count against it. No job
    runs beside an earlier run of itself.
    """

    def __init__(
        self,
        ledger: Ledger,
        claims: ClaimRegistry,
        stuck_tasks: StuckTasks,
        consumer: Pausable,
        *,
        max_lost: int,
    ) -> None:
        self._ledger = ledger
        self._claims = claims
        self._stuck_tasks = stuck_tasks
        self._consumer = consumer
        self._max_lost = max_lost
        self._occupancy = Occupancy()

    @asynccontextmanager
    async def admit(self, claim: HeldClaim) -> AsyncIterator[Snoozed | LostClaim | None]:
        """
        None: the job runs within this block. Otherwise it does not run now, with this outcome.
        """
        if self._still_runs(claim):
            yield Snoozed(ELSEWHERE_S, STILL_RUNS)
        elif needs_last_chance(claim.job, max_lost=self._max_lost):
            async with self._alone(claim) as outcome:
                yield outcome
        else:
            with self._occupancy.beside_others() as may_run:
                busy = Snoozed(ELSEWHERE_S, "another job runs alone in this process")
                yield None if may_run else busy

    def _still_runs(self, claim: HeldClaim) -> bool:
        """
        Whether an earlier run goes on here. It is stopped; if it does not stop, its process is.
        """
        if self._claims.stop_earlier(claim):
            return True
        if claim.job.id not in self._stuck_tasks:
            return False
        self._stuck_tasks.make_way(claim.job.id)
        return True

    @asynccontextmanager
    async def _alone(self, claim: HeldClaim) -> AsyncIterator[Snoozed | LostClaim | None]:
        waits = _waits_to_be_alone(claim.job)
        starves = waits >= ALONE_TRIES
        with self._consumer.held():
            async with self._occupancy.alone(within_s=ALONE_WAIT_S, else_beside=starves) as may_run:
                if may_run:
                    chance = TakeLastChance(claim.job.id, claim.token, claim.next_seq())
                    yield None if await self._ledger.apply(chance) else LostClaim()
                    return
        first_s, most_s = ALONE_AGAIN_S
        yield Snoozed(backoff_s(waits + 1, base_s=first_s, cap_s=most_s), WAITS_TO_BE_ALONE)


class Occupancy:
    """
    The tasks that run in a process: side by side, or one of them alone.

    A task that must be alone waits for those that run, and no other task enters meanwhile. No task
    waits to enter beside it: its job is released, so that another process can run it.
    """

    def __init__(self) -> None:
        self._running = 0
        self._alone = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def beside_others(self) -> Iterator[bool]:
        """False: a task runs alone here, or waits to run alone."""
        if self._alone:
            yield False
            return
        self._running += 1
        self._empty.clear()
        try:
            yield True
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()

    @asynccontextmanager
    async def alone(self, *, within_s: float, else_beside: bool = False) -> AsyncIterator[bool]:
        """
        False: another task is alone, or the others did not end `within_s`. With `else_beside` the
        task then runs beside those others, and no further task enters meanwhile.
        """
        if self._alone:
            yield False
            return
        self._alone = True
        try:
            yield await self._is_empty(within_s) or else_beside
        finally:
            self._alone = False

    async def _is_empty(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


def _waits_to_be_alone(job: Job) -> int:
    """How often it has waited in vain since its last loss."""
    waits = 0
    for entry in reversed(job.history):
        if entry.note == WAITS_TO_BE_ALONE:
            waits += 1
        elif entry.note:
            break
    return waits
