"""The dispatcher: each row of the due_at table, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from api_shared.client.contract import Contract, FailedJob
from api_shared.errors import LedgerUnavailable
from api_shared.job import Job, JobError, Reason, Status
from api_shared.ledger.change import Change
from api_shared.ledger.operations import Fail, Release, Retry, TakeLastChance
from api_shared.ledger.protocol import WorkerInfo
from api_shared.ledger.transitions import request_cancel
from api_shared.transport.connection import Connection
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.publisher import AmqpPublisher
from api_shared.worker.maintenance import dispatcher as dispatcher_module
from api_shared.worker.maintenance.dead_letters import DEAD_LETTERING_S, DeadLetters
from api_shared.worker.maintenance.dispatcher import BATCH, Dispatcher
from fixtures.doubles import Clock, RecordingPublisher, runtime_on
from fixtures.faulty_ledger import FaultyLedger
from fixtures.ledgers import claimed, inserted

LEASE_S = 15.0
ERROR = JobError(Reason.ERROR, "ValueError", "no luck")


class Nothing(BaseModel):
    pass


class RabbitMQ:
    """The depth of each queue: what was published, less what the test lets go."""

    def __init__(self) -> None:
        self.depths: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.declared: list[str] = []
        self.is_away = False
        self.is_mute = False
        self.opened = 1
        self.publisher = RecordingPublisher()

    def holds(self, queue: str) -> int:
        published = sum(job.queue == queue for job in self.publisher.published)
        return published + self.depths.get(queue, 0)

    def purge(self) -> None:
        self.publisher.published.clear()
        self.depths.clear()

    # What `_depth` and `declare` call of a connection and its channels.

    @asynccontextmanager
    async def side_channel(self) -> AsyncIterator[Any]:
        if self.is_away:
            raise RabbitUnavailable("not connected")
        if self.is_mute:
            raise RabbitUnavailable("no answer in time")
        yield self

    async def queue_declare(self, queue: str, *, passive: bool = False, **_: Any) -> Any:
        from aiormq.exceptions import ChannelNotFoundEntity

        if passive and queue in self.deleted:
            raise ChannelNotFoundEntity
        if not passive:
            self.deleted.discard(queue)
            self.declared.append(queue)
        return SimpleNamespace(message_count=self.holds(queue))

    async def exchange_declare(self, *_: Any, **__: Any) -> None: ...

    async def queue_bind(self, *_: Any, **__: Any) -> None: ...


class Publishes(AmqpPublisher):
    def __init__(self, rabbit: RabbitMQ) -> None:
        self.rabbit = rabbit

    @property
    def connection(self) -> Connection:
        connection: Any = self.rabbit
        typed: Connection = connection
        return typed

    async def publish_job(self, job: Job) -> None:
        await self.rabbit.publisher.publish_job(job)


class World:
    """One dispatcher, its clock, its ledger and its RabbitMQ."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = FaultyLedger(self.clock)
        self.rabbit = RabbitMQ()
        self.told: list[FailedJob] = []
        self.runtime = runtime_on(self.ledger, self.rabbit.publisher, lease_s=LEASE_S)
        contract = Contract("text.summarize", Nothing, int, on_failure=self.told.append)
        self.dead_letters = DeadLetters(
            self.rabbit.publisher,
            self.runtime.topology,
            self.ledger,
            {contract.name: contract},
            retention_s=60,
        )
        self.dispatcher = self.another_dispatcher()

    def another_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            self.runtime,
            Publishes(self.rabbit),
            self.dead_letters,
            Random(0),
        )

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.dispatcher.dispatch_once()

    async def read(self, job: Job) -> Job:
        found = await self.ledger.get(job.id)
        assert found is not None
        return found

    async def queued(self, **fields: Any) -> Job:
        """Accepted and published."""
        job = await inserted(self.ledger, **fields)
        await self.rabbit.publisher.publish_job(job)
        return job

    async def processing(self, **fields: Any) -> tuple[Job, str]:
        """Claimed, its message acked."""
        job = await inserted(self.ledger, **fields)
        return await claimed(self.ledger, job.id, lease_s=LEASE_S)

    @property
    def published(self) -> list[str]:
        return [job.id for job in self.rabbit.publisher.published]


@pytest.fixture
def world() -> World:
    return World()


# scheduled, retrying


@pytest.mark.parametrize("make", ["scheduled", "retry", "hand back"])
async def test_a_job_whose_time_has_come_is_queued_and_published(world: World, make: str) -> None:
    if make == "scheduled":
        job = await inserted(world.ledger, status=Status.SCHEDULED, due_in_s=60)
    else:
        job, token = await world.processing()
        write: Any = Retry(job.id, token, job.seq + 1, ERROR, 60)
        if make == "hand back":
            write = Release(job.id, token, job.seq + 1, 60, "snoozed")
        assert await world.ledger.apply(write)
    await world.after(59)
    assert world.published == []
    async with world.runtime.notifier.subscribe(job_id=job.id) as events:
        await world.after(1)
        told = await events.next(0)
    assert world.published == [job.id]
    assert told is not None
    assert told.status is Status.QUEUED
    now = await world.read(job)
    assert (now.status, now.due_at) == (Status.QUEUED, world.clock.now + timedelta(seconds=30))


async def test_ten_dispatchers_publish_a_job_once(world: World) -> None:
    await inserted(world.ledger, status=Status.SCHEDULED, due_in_s=0)
    for dispatcher in [world.another_dispatcher() for _ in range(10)]:
        await dispatcher.dispatch_once()
    assert len(world.published) == 1


async def test_a_publish_that_fails_is_left_to_the_next_look(world: World) -> None:
    job = await inserted(world.ledger, status=Status.SCHEDULED, due_in_s=0)
    world.rabbit.publisher.error = RabbitUnavailable("not connected")
    await world.after(0)
    assert (await world.read(job)).status is Status.QUEUED
    world.rabbit.publisher.error = None
    await world.after(30)
    assert world.published == [job.id]


async def test_a_job_that_the_ledger_does_not_answer_for_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await inserted(world.ledger, status=Status.SCHEDULED, due_in_s=0) for _ in range(30)]
    deaf_to, change = jobs[0].id, world.ledger.change

    async def one_is_not_answered(wanted: Change) -> Job | None:
        if wanted.job_id == deaf_to:
            raise LedgerUnavailable("no answer in time")
        return await change(wanted)

    monkeypatch.setattr(world.ledger, "change", one_is_not_answered)
    with pytest.raises(LedgerUnavailable):
        await world.after(0)
    assert sorted(world.published) == sorted(job.id for job in jobs[1:])
    monkeypatch.undo()
    await world.after(0)
    assert world.published[-1] == deaf_to


# queued


async def test_a_job_of_a_queue_that_is_only_long_is_not_published_again(world: World) -> None:
    jobs = [await world.queued() for _ in range(3)]
    looks = []
    for _ in range(6):
        await world.after(700)
        looks.append((await world.read(jobs[0])).looks)
    assert world.published == [job.id for job in jobs]
    assert looks == [1, 2, 3, 4, 5, 6]


async def test_looks_at_a_long_queue_become_ever_rarer_up_to_ten_minutes(world: World) -> None:
    job = await world.queued()
    waits = []
    for _ in range(7):
        due_at = (await world.read(job)).due_at
        assert due_at is not None
        world.clock.now = due_at
        await world.dispatcher.dispatch_once()
        after = (await world.read(job)).due_at
        assert after is not None
        waits.append((after - due_at).total_seconds())
    assert waits == [60, 120, 240, 480, 600, 600, 600]


async def test_a_purged_queue_is_refilled_with_what_it_lost(world: World) -> None:
    jobs = [await world.queued() for _ in range(5)]
    await world.queued(queue="low")
    world.rabbit.purge()
    world.rabbit.depths["low"] = 1
    await world.after(30)
    assert sorted(world.published) == sorted(job.id for job in jobs)
    await world.after(30)
    assert len(world.published) == 5, "the queue holds them all again"


async def test_only_as_many_are_published_as_the_queue_has_lost(world: World) -> None:
    for _ in range(5):
        await inserted(world.ledger)
    world.rabbit.depths["taskiq"] = 3
    await world.after(30)
    assert len(world.published) == 2


async def test_what_workers_hold_unstarted_is_not_missing(world: World) -> None:
    for _ in range(5):
        await inserted(world.ledger)
    world.clock.advance(30)
    info = WorkerInfo("w-1", "general", "host", 1, ("taskiq",), 0, {"taskiq": 4})
    await world.ledger.report_worker(info)
    await world.after(0)
    assert len(world.published) == 1


async def test_a_rabbitmq_that_is_away_is_asked_again_and_nothing_is_counted(world: World) -> None:
    job = await inserted(world.ledger)
    world.rabbit.is_away = True
    await world.after(30)
    assert (await world.read(job)).looks == 0
    world.rabbit.is_away = False
    await world.after(0)
    assert world.published == [job.id]


@pytest.mark.parametrize("fault", ["is_away", "is_mute"])
async def test_a_long_backlog_hides_no_other_work_while_rabbitmq_does_not_tell_of_it(
    world: World, fault: str
) -> None:
    for _ in range(BATCH + 1):
        await inserted(world.ledger)
    world.clock.advance(60)
    job, _ = await world.processing()
    await world.ledger.change(request_cancel(job.id))
    world.clock.advance(LEASE_S)
    setattr(world.rabbit, fault, True)
    rounds = [await world.dispatcher.dispatch_once() for _ in range(2)]
    assert (await world.read(job)).status is Status.CANCELLED
    assert rounds == [False, False], "there is nothing to be done at once"


async def test_thousands_that_are_due_at_once_hold_up_no_lost_job(world: World) -> None:
    for _ in range(5 * BATCH):
        await inserted(world.ledger, status=Status.SCHEDULED, due_in_s=0)
    job, _ = await world.processing()
    await world.after(LEASE_S)
    assert world.published[0] == job.id


async def test_jobs_of_a_queue_that_the_settings_name_no_more_go_to_the_default_one(
    world: World,
) -> None:
    renamed: dict[str, Any] = {"queue": "before"}
    waiting = await inserted(world.ledger, **renamed)
    later = await inserted(world.ledger, **renamed, status=Status.SCHEDULED, due_in_s=20)
    lost, _ = await world.processing(**renamed)
    failed, token = await world.processing(**renamed)
    await world.ledger.apply(Fail(failed.id, token, failed.seq + 1, ERROR, 0))
    await world.after(30)
    moved = [waiting, later, lost]
    assert sorted(world.published) == sorted(job.id for job in moved)
    assert {job.queue for job in world.rabbit.publisher.published} == {"taskiq"}
    assert [queue for queue, *_ in world.rabbit.publisher.dead] == ["taskiq"]
    assert (await world.read(failed)).failure_told


async def test_a_deleted_queue_is_declared_again_and_refilled(world: World) -> None:
    job = await world.queued()
    world.rabbit.purge()
    world.rabbit.deleted.add("taskiq")
    await world.after(30)
    assert "taskiq" in world.rabbit.declared
    assert world.published == [job.id]


async def test_after_a_lost_connection_queues_are_looked_after_before_their_jobs_are_due(
    world: World,
) -> None:
    job = await world.queued()
    world.rabbit.purge()
    await world.after(6)
    assert world.published == []
    world.rabbit.opened += 1
    await world.after(0)
    assert world.published == [job.id]


async def test_a_long_backlog_that_rabbitmq_has_lost_is_published_again_at_once(
    world: World,
) -> None:
    """Its jobs were last looked after long ago, and would be again only after minutes."""
    jobs = [await world.queued() for _ in range(2 * BATCH + 50)]
    for seconds in (30, 0, 0, 60, 0, 0, 120, 0, 0):
        await world.after(seconds)
    assert min([(await world.read(job)).looks for job in jobs]) == 3
    world.rabbit.purge()
    world.rabbit.opened += 1
    for _ in range(3):
        await world.after(1)
    assert sorted(world.published) == sorted(job.id for job in jobs), "each once"
    await world.after(1)
    assert len(world.published) == len(jobs)


async def test_a_job_that_may_still_be_on_its_way_is_not_missing(world: World) -> None:
    await inserted(world.ledger)
    world.rabbit.opened += 1
    await world.after(4)
    assert world.published == []


# processing


async def test_a_claim_whose_lease_ran_out_is_taken_back_and_published(world: World) -> None:
    job, _ = await world.processing()
    await world.after(LEASE_S - 1)
    assert (await world.read(job)).status is Status.PROCESSING
    await world.after(1)
    taken = await world.read(job)
    assert (taken.status, taken.lost, taken.attempt, taken.token) == (Status.QUEUED, 1, 0, None)
    assert world.published == [job.id]


async def test_a_second_loss_waits_and_a_third_fails_the_job_for_good(world: World) -> None:
    job, _ = await world.processing()
    statuses = []
    for _ in range(3):
        await world.after(LEASE_S)
        statuses.append((await world.read(job)).status)
        await world.after(30)
        if (await world.read(job)).status is Status.QUEUED:
            running, token = await claimed(world.ledger, job.id, lease_s=LEASE_S)
            if running.lost == 2:
                assert await world.ledger.apply(TakeLastChance(job.id, token, running.seq + 1))
    assert statuses == [Status.QUEUED, Status.RETRYING, Status.FAILED]
    failed = await world.read(job)
    assert failed.error is not None
    assert failed.error.reason is Reason.LOST
    assert [reason for _, _, reason, _ in world.rabbit.publisher.dead] == ["lost"]


async def test_a_lost_job_that_was_asked_to_end_is_cancelled(world: World) -> None:
    job, _ = await world.processing()
    await world.ledger.change(request_cancel(job.id))
    await world.after(LEASE_S)
    cancelled = await world.read(job)
    assert cancelled.status is Status.CANCELLED
    assert cancelled.expires_at is not None
    assert world.published == []


async def test_a_claim_of_this_process_is_left_to_its_heartbeat_and_taken_back_by_others(
    world: World,
) -> None:
    """The host was suspended: the ledger's clock went on, and no heartbeat could."""
    job, token = await world.processing()
    world.clock.advance(3600)
    world.dispatcher.held = lambda: {job.id: token}
    await world.dispatcher.dispatch_once()
    assert (await world.read(job)).token == token
    await world.another_dispatcher().dispatch_once()
    assert (await world.read(job)).status is Status.QUEUED


async def test_an_older_claim_of_a_job_that_this_process_holds_no_more_is_taken_back(
    world: World,
) -> None:
    job, _ = await world.processing()
    world.dispatcher.held = lambda: {job.id: "another token"}
    await world.after(LEASE_S)
    assert (await world.read(job)).status is Status.QUEUED


async def test_a_heartbeat_between_the_read_and_the_rescue_saves_the_claim(
    world: World,
) -> None:
    job, token = await world.processing()
    world.clock.advance(LEASE_S)
    [seen] = await world.ledger.due("general")
    await world.ledger.heartbeat({job.id: token}, lease_s=LEASE_S)
    await world.dispatcher._rescue(seen)
    assert (await world.read(job)).token == token


# failed


async def test_a_failed_job_is_dead_lettered_once_and_its_hook_called_once(world: World) -> None:
    job, token = await world.processing()
    assert await world.ledger.apply(Fail(job.id, token, job.seq + 1, ERROR, LEASE_S))
    await world.after(LEASE_S - 1)
    assert world.told == []
    await world.after(1)
    await world.after(1000)
    [(queue, body, reason, detail)] = world.rabbit.publisher.dead
    assert (queue, reason, detail) == ("taskiq", "error", "ValueError: no luck")
    assert job.id.encode() in body
    assert [told.job_id for told in world.told] == [job.id]


async def test_a_dead_letter_that_was_not_confirmed_is_published_again(world: World) -> None:
    job, token = await world.processing()
    assert await world.ledger.apply(Fail(job.id, token, job.seq + 1, ERROR, 0))
    world.rabbit.publisher.error = RabbitUnavailable("not connected")
    await world.after(0)
    still = await world.read(job)
    assert (still.failure_told, still.expires_at) == (False, None)
    assert still.due_at == world.clock.now + timedelta(seconds=DEAD_LETTERING_S), (
        "its hook may take long"
    )
    world.rabbit.publisher.error = None
    await world.after(60)
    settled = await world.read(job)
    assert (settled.failure_told, settled.due_at) == (True, None)
    assert settled.expires_at is not None


# terminal


@pytest.mark.parametrize("end", ["completed", "cancelled"])
async def test_an_ended_job_is_never_due(world: World, end: str) -> None:
    from api_shared.ledger.operations import Complete
    from api_shared.ledger.transitions import cancel_waiting

    if end == "completed":
        job, token = await world.processing()
        await world.ledger.apply(Complete(job.id, token, job.seq + 1, "1", 1e6))
    else:
        job = await inserted(world.ledger)
        await world.ledger.change(cancel_waiting(job.id, retention_s=1e6))
    await world.after(1e5)
    assert (await world.read(job)).status == end
    assert (world.published, world.rabbit.publisher.dead) == ([], [])


# Patience.


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the process's own clock, which patience is counted by."""
    now = [1000.0]

    def advance(by: float) -> None:
        now[0] += by

    monkeypatch.setattr(dispatcher_module, "monotonic", lambda: now[0])
    return advance


async def test_claims_are_left_alone_for_one_lease_after_the_start(
    world: World, seconds: Callable[[float], None]
) -> None:
    job, _ = await world.processing()
    scheduled = await inserted(world.ledger, status=Status.SCHEDULED, due_in_s=0)
    world.dispatcher._be_patient()
    await world.after(100)
    assert (await world.read(job)).status is Status.PROCESSING
    assert world.published == [scheduled.id], "the rest of its work goes on"
    seconds(LEASE_S)
    await world.after(0)
    assert (await world.read(job)).status is Status.QUEUED


async def test_a_ledger_that_was_away_gives_claims_another_lease(
    world: World, seconds: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[Status] = []
    job, _ = await world.processing()
    world.clock.advance(100)

    class Over(Exception):
        pass

    async def between_rounds(_: float) -> None:
        rounds.append((await world.read(job)).status)
        seconds(LEASE_S - 1)
        world.ledger.fail = {"due"} if len(rounds) in (1, 2) else set()
        if len(rounds) == 6:
            raise Over

    monkeypatch.setattr("api_shared.worker.maintenance.dispatcher.asyncio.sleep", between_rounds)
    with pytest.raises(Over):
        await world.dispatcher.run()
    assert rounds[:5] == [Status.PROCESSING] * 5, "one lease from its return on"
    assert rounds[5] is Status.QUEUED
