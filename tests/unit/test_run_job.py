"""Where a body may run: beside others, alone in its process, or not here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api_shared import JobBroker
from api_shared.job import Job, Status
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.transitions import publish_due, rescue
from api_shared.testing.memory_broker import SilentConsumer
from api_shared.testing.waiting import until
from api_shared.transport.consumer import Delivery
from api_shared.transport.message import ACCEPTED, decode, encode
from api_shared.worker.run import isolation
from api_shared.worker.run.errors import NotOurs
from api_shared.worker.run.held_claim import Stop
from api_shared.worker.run.isolation import ALONE_TRIES, WAITS_TO_BE_ALONE
from api_shared.worker.run.run_job import run_job
from fixtures.doubles import Clock, runtime_on
from fixtures.ledgers import inserted
from fixtures.worker_runtime import worker_runtime


class Intake(SilentConsumer):
    """Counts who holds it."""

    holders = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holders += 1
        try:
            yield
        finally:
            self.holders -= 1


class Place:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = MemoryLedger(self.clock)
        self.broker = JobBroker("general")
        self.go = asyncio.Event()
        self.seen: list[Job] = []
        self.retired: list[bool] = []

        @self.broker.task(task_name="work")
        async def work(a: int = 1) -> int:
            self.seen += [claim.job for claim in self.worker.claims]
            await self.go.wait()
            return a

        self.intake = Intake()
        self.worker = worker_runtime(
            runtime_on(self.ledger),
            consumer=self.intake,
            retire=lambda: self.retired.append(True),
        )

    def run(self, job: Job) -> asyncio.Task[Any]:
        body = encode(job)
        queue = self.worker.runtime.topology.queue(job.queue)
        delivery = Delivery((0, 0, 0), body, queue, {ACCEPTED: 1}, 0, SilentConsumer())
        message = decode(body, max_bytes=len(body))
        task = self.broker.tasks["work"]
        return asyncio.create_task(run_job(task, delivery, message, None, self.worker))

    async def job(self, lost: int = 0) -> Job:
        return await inserted(self.ledger, task="work", args_json="{}", lost=lost)

    async def read(self, job: Job) -> Job:
        found = await self.ledger.get(job.id)
        assert found is not None
        return found

    async def lose(self, job: Job) -> Job:
        """The lease runs out, and another process takes the job back."""
        self.clock.advance(16)
        back = rescue(
            await self.read(job), max_lost=3, retry_in_s=1, republish_after_s=30, retention_s=60
        )
        queued = await self.ledger.change(back)
        assert queued is not None
        return queued

    async def again(self, job: Job) -> Job:
        self.clock.advance(3600)
        queued = await self.ledger.change(publish_due(await self.read(job), republish_after_s=30))
        assert queued is not None
        return queued


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(isolation, "ALONE_WAIT_S", 0.01)
    return Place()


async def test_a_last_chance_is_taken_alone_while_nothing_else_is_let_in(place: Place) -> None:
    suspect = await place.job(lost=2)
    running = place.run(suspect)
    await until(lambda: place.seen)
    assert (await place.read(suspect)).last_chance
    assert place.intake.holders == 1
    other = await place.job()
    with pytest.raises(NotOurs):
        await place.run(other)
    handed_back = await place.read(other)
    assert (handed_back.status, handed_back.attempt) == (Status.RETRYING, 0)
    place.go.set()
    assert await running == 1
    assert place.intake.holders == 0
    assert (await place.read(suspect)).status is Status.COMPLETED


async def test_a_last_chance_is_not_taken_beside_others_until_it_has_waited_long_enough(
    place: Place,
) -> None:
    long = place.run(await place.job())
    await until(lambda: place.seen)
    suspect = await place.job(lost=2)
    for _ in range(ALONE_TRIES):
        with pytest.raises(NotOurs):
            await place.run(suspect)
        waiting = await place.read(suspect)
        assert (waiting.status, waiting.attempt) == (Status.RETRYING, 0)
        assert waiting.history[-1].note == WAITS_TO_BE_ALONE
        assert not waiting.last_chance
        suspect = await place.again(suspect)
    starved = place.run(suspect)
    await until(lambda: len(place.seen) > 1)
    assert (await place.read(suspect)).last_chance
    place.go.set()
    assert [await long, await starved] == [1, 1]


async def test_two_last_chances_are_never_taken_side_by_side_however_long_one_waits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "ALONE_TRIES", 0)
    first, second = [await place.job(lost=2) for _ in range(2)]
    running = place.run(first)
    await until(lambda: place.seen)
    with pytest.raises(NotOurs):
        await asyncio.wait_for(place.run(second), 10)
    waiting = await place.read(second)
    assert (waiting.status, waiting.last_chance) == (Status.RETRYING, False)
    place.go.set()
    assert await running == 1


async def test_an_outcome_that_comes_after_its_claim_was_lost_is_counted(place: Place) -> None:
    job = await place.job()
    running = place.run(job)
    await until(lambda: place.seen)
    await place.lose(job)
    place.go.set()
    with pytest.raises(NotOurs):
        await running
    late = await place.read(job)
    assert (late.status, late.late_writes, late.result_json) == (Status.QUEUED, 1, None)


async def test_a_job_whose_claim_arrives_during_a_drain_goes_on_elsewhere(place: Place) -> None:
    place.worker.claims.stop_all(Stop.DRAIN)
    job = await place.job()
    with pytest.raises(NotOurs):
        await asyncio.wait_for(place.run(job), 10)
    released = await place.read(job)
    assert (released.status, released.attempt, released.lost) == (Status.RETRYING, 0, 0)
    assert released.history[-1].note == "worker stopped"


async def test_jobs_that_were_lost_once_run_side_by_side(place: Place) -> None:
    running = [place.run(await place.job(lost=1)) for _ in range(3)]
    await until(lambda: len(place.worker.claims) == 3 and len(place.seen) >= 3)
    place.go.set()
    assert await asyncio.gather(*running) == [1, 1, 1]


async def test_a_job_is_handed_back_where_its_own_leftover_goes_on(place: Place) -> None:
    job = await place.job()
    leftover: asyncio.Task[str] = asyncio.create_task(asyncio.sleep(3600, "late"))
    place.worker.stuck_tasks.add(job.id, leftover)
    with pytest.raises(NotOurs):
        await place.run(job)
    assert place.retired == [True]
    assert (await place.read(job)).status is Status.RETRYING
    assert place.seen == []
    leftover.cancel()


async def test_a_job_that_comes_back_beside_its_own_run_stops_it_and_waits(place: Place) -> None:
    job = await place.job()
    first = place.run(job)
    await until(lambda: place.seen)
    second = place.run(await place.lose(job))
    for run in (second, first):
        with pytest.raises(NotOurs):
            await asyncio.wait_for(run, 10)
    back = await place.read(job)
    assert (back.status, back.attempt, back.lost) == (Status.RETRYING, 0, 1)
    assert len(place.seen) == 1
    place.go.set()
    assert await place.run(await place.again(job)) == 1
