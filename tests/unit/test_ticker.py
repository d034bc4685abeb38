"""The ticker on a ledger whose clock the test moves: what fires, when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from api_shared import Contract, Cron, Every, Missed, Overlap, Schedule
from api_shared.client.periodic import definitions_of, fire, run_now
from api_shared.errors import InvalidArguments, InvalidOption, LedgerUnavailable
from api_shared.job import Job, Status
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.memory.schedules import MemoryScheduleStore
from api_shared.ledger.protocol import JobFilter
from api_shared.ledger.transitions import cancel_waiting
from api_shared.schedules.schedule import ScheduleRecord, tick_id
from api_shared.schedules.store import (
    UnknownSchedule,
    UnreadableSchedule,
    pause_schedule,
    remove_schedule,
    resume_schedule,
)
from api_shared.worker.maintenance.periodic_jobs import PeriodicJobs
from fixtures.doubles import START, Clock, RecordingPublisher, runtime_on
from fixtures.schedules import put_on

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class SweepArgs(BaseModel):
    folder: str = "/tmp"


class Book(MemoryScheduleStore):
    """Counts its writes; `break_after` breaks the connection after that many more of them."""

    saves = 0
    break_after: int | None = None

    async def save(self, record: ScheduleRecord) -> ScheduleRecord | None:
        if self.break_after == 0:
            raise LedgerUnavailable("the connection broke")
        saved = await super().save(record)
        self.saves += 1
        if self.break_after is not None:
            self.break_after -= 1
        await asyncio.sleep(0)
        return saved


class Ledger(MemoryLedger):
    """Gives way at each question, so that dispatchers mix."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._book = Book(self._now)

    @property
    def schedules(self) -> Book:
        return self._book

    async def get(self, job_id: str) -> Job | None:
        await asyncio.sleep(0)
        return await super().get(job_id)


@dataclass
class World:
    clock: Clock
    ledger: Ledger
    publisher: RecordingPublisher

    @classmethod
    def new(cls) -> World:
        clock = Clock()
        return cls(clock, Ledger(clock), RecordingPublisher())

    def ticker(self, *contracts: Contract[Any, Any], **settings: Any) -> PeriodicJobs:
        """Of a worker process that knows these contracts."""
        runtime = runtime_on(self.ledger, self.publisher, **settings)
        return PeriodicJobs(runtime, lambda: contracts, Random(0))

    async def fired(self) -> list[tuple[str, datetime]]:
        """Schedule and planned time of each job, in the order of the plan."""
        jobs = await self.ledger.find(JobFilter(), limit=10_000)
        return sorted((job.labels["schedule"], planned_at(job)) for job in jobs)

    async def times(self) -> list[datetime]:
        return [planned for _, planned in await self.fired()]

    async def record(self, name: str = "sweep") -> ScheduleRecord:
        found = await self.ledger.schedules.get(name)
        assert found is not None
        return found

    async def end_all(self) -> None:
        for job in await self.ledger.find(JobFilter(), limit=10_000):
            await self.ledger.change(cancel_waiting(job.id, retention_s=60))

    async def pass_time(
        self, by: timedelta, *tickers: PeriodicJobs, step: timedelta = MINUTE
    ) -> None:
        """Time goes by in steps; at each the tickers look until nothing is left."""
        until = self.clock.now + by
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step)
            await look(*tickers)


async def look(*tickers: PeriodicJobs) -> None:
    while any([await ticker.tick_once() for ticker in tickers]):
        pass


def planned_at(job: Job) -> datetime:
    return datetime.fromisoformat(job.labels["planned_at"])


def sweep(when: Cron | Every | None = None, **options: Any) -> Contract[SweepArgs, Any]:
    schedule = Schedule(when or Every(10 * MINUTE), **options)
    return Contract("sweep", SweepArgs, int, schedule=schedule)


@pytest.fixture
def world() -> World:
    return World.new()


async def started(ticker: PeriodicJobs) -> PeriodicJobs:
    await ticker.declare()
    await look(ticker)
    return ticker


# On time.


async def test_a_schedule_ticks_from_its_declaration_on(world: World) -> None:
    world.clock.advance(90)
    ticker = await started(world.ticker(sweep(overlap=Overlap.ALLOW)))
    assert await world.times() == []
    await world.pass_time(timedelta(minutes=25), ticker)
    assert await world.times() == [START + 10 * MINUTE, START + 20 * MINUTE]


async def test_a_tick_is_a_job_that_says_whose_it_is(world: World) -> None:
    contract = replace(
        sweep(),
        queue="low",
        schedule=Schedule(
            Every(10 * MINUTE), SweepArgs(folder="/x"), priority=7, owner="ops", labels={"a": "b"}
        ),
    )
    ticker = await started(world.ticker(contract))
    await world.pass_time(10 * MINUTE, ticker)
    [job] = world.publisher.published
    assert job.id == tick_id("sweep", START + 10 * MINUTE)
    assert (job.task, job.args, job.queue) == ("sweep", {"folder": "/x"}, "low")
    assert (job.priority, job.owner, job.status) == (7, "ops", Status.QUEUED)
    assert job.labels == {
        "a": "b",
        "schedule": "sweep",
        "planned_at": "2026-01-01T00:10:00+00:00",
    }


async def test_nobody_looks_at_a_schedule_before_its_next_tick(world: World) -> None:
    ticker = await started(world.ticker(sweep()))
    before = world.ledger.schedules.saves
    await world.pass_time(timedelta(minutes=9, seconds=59), ticker, step=timedelta(seconds=1))
    assert world.ledger.schedules.saves == before


async def test_a_tick_outlives_its_catch_up_window_whatever_the_retention_is(world: World) -> None:
    ticker = await started(world.ticker(sweep(catch_up=timedelta(days=2)), retention_s=1))
    await world.pass_time(10 * MINUTE, ticker)
    await world.ledger.change(cancel_waiting(tick_id("sweep", START + 10 * MINUTE), retention_s=1))
    world.clock.now = START + timedelta(days=2, minutes=10)
    assert len(await world.times()) == 1
    world.clock.now += timedelta(hours=1)
    assert await world.times() == []


# Missed.


@pytest.mark.parametrize(
    ("missed", "fired"),
    [(Missed.SKIP, []), (Missed.ONCE, [60]), (Missed.ALL, [10, 20, 30, 40, 50, 60])],
)
async def test_what_fell_due_while_all_was_down_follows_the_policy(
    world: World, missed: Missed, fired: list[int]
) -> None:
    contract = sweep(missed=missed, overlap=Overlap.ALLOW)
    await started(world.ticker(contract))
    world.clock.now += timedelta(minutes=65)
    ticker = await started(world.ticker(contract))
    assert await world.times() == [START + minutes * MINUTE for minutes in fired]
    await world.pass_time(10 * MINUTE, ticker)
    assert (await world.times())[-1] == START + 70 * MINUTE


@pytest.mark.parametrize("missed", list(Missed))
async def test_nothing_older_than_the_catch_up_window_runs(world: World, missed: Missed) -> None:
    contract = sweep(missed=missed, overlap=Overlap.ALLOW, catch_up=timedelta(minutes=25))
    await started(world.ticker(contract))
    world.clock.now += timedelta(days=3, minutes=5)
    await started(world.ticker(contract))
    ticks = await world.times()
    oldest = world.clock.now - timedelta(minutes=25)
    assert all(tick > oldest for tick in ticks)
    assert len(ticks) == {Missed.SKIP: 0, Missed.ONCE: 1, Missed.ALL: 2}[missed]


async def test_a_tick_that_is_a_little_late_is_not_missed(world: World) -> None:
    ticker = await started(world.ticker(sweep(missed=Missed.SKIP)))
    world.clock.now += timedelta(minutes=10, seconds=59)
    await look(ticker)
    assert await world.times() == [START + 10 * MINUTE]


async def test_a_long_absence_is_caught_up_in_bounded_steps(world: World) -> None:
    contract = sweep(Every(MINUTE), missed=Missed.ALL, overlap=Overlap.ALLOW)
    await started(world.ticker(contract))
    world.clock.now += timedelta(minutes=250)
    ticker = world.ticker(contract)
    await ticker.declare()
    await ticker.tick_once()
    assert len(await world.times()) == 100
    await look(ticker)
    assert await world.times() == [START + number * MINUTE for number in range(1, 251)]


# Overlap.


async def test_a_tick_is_left_out_while_the_run_before_goes_on(world: World) -> None:
    ticker = await started(world.ticker(sweep(overlap=Overlap.SKIP)))
    await world.pass_time(timedelta(minutes=35), ticker)
    assert await world.times() == [START + 10 * MINUTE]
    await world.end_all()
    await world.pass_time(5 * MINUTE, ticker)
    assert await world.times() == [START + 10 * MINUTE, START + 40 * MINUTE]


async def test_ticks_run_side_by_side_where_that_is_allowed(world: World) -> None:
    ticker = await started(world.ticker(sweep(overlap=Overlap.ALLOW)))
    await world.pass_time(30 * MINUTE, ticker)
    assert len(await world.times()) == 3


@pytest.mark.parametrize("missed", [Missed.SKIP, Missed.ONCE])
async def test_a_tick_waits_for_the_end_of_the_run_before(world: World, missed: Missed) -> None:
    ticker = await started(world.ticker(sweep(overlap=Overlap.WAIT, missed=missed)))
    await world.pass_time(timedelta(minutes=35), ticker)
    assert await world.times() == [START + 10 * MINUTE]
    await world.end_all()
    await world.pass_time(timedelta(seconds=1), ticker)
    assert await world.times() == [START + 10 * MINUTE, START + 30 * MINUTE], "the last that waits"
    await world.pass_time(timedelta(minutes=6), ticker)
    assert len(await world.times()) == 2, "the next waits again"


async def test_all_ticks_wait_in_line_where_all_are_wanted(world: World) -> None:
    ticker = await started(world.ticker(sweep(overlap=Overlap.WAIT, missed=Missed.ALL)))
    await world.pass_time(timedelta(minutes=35), ticker)
    assert len(await world.times()) == 1
    for number in (2, 3):
        await world.end_all()
        await world.pass_time(timedelta(seconds=1), ticker)
        assert await world.times() == [START + n * 10 * MINUTE for n in range(1, number + 1)]


# Declared by several releases.


async def test_a_changed_schedule_is_taken_over_with_what_was_due_before(world: World) -> None:
    await started(world.ticker(sweep(Cron("0 * * * *"))))
    world.clock.now += timedelta(minutes=65)
    new = sweep(Cron("30 * * * *"), args=SweepArgs(folder="/new"), overlap=Overlap.ALLOW)
    ticker = await started(world.ticker(new))
    assert await world.times() == [START + HOUR], "fell due before the change"
    assert world.publisher.published[0].args == {"folder": "/tmp"}
    await world.pass_time(timedelta(minutes=60), ticker)
    assert await world.times() == [START + HOUR, START + timedelta(minutes=90)]
    assert world.publisher.published[1].args == {"folder": "/new"}


async def test_two_releases_side_by_side_do_not_fight(world: World) -> None:
    old, new = sweep(Every(10 * MINUTE)), sweep(Every(15 * MINUTE), overlap=Overlap.ALLOW)
    first = await started(world.ticker(old))
    second = await started(world.ticker(new))
    in_force = (await world.record()).definition.digest
    for _ in range(30):  # both go on; the old one even starts anew
        await world.pass_time(MINUTE, first, second)
        await first.declare()
        await second.declare()
        await world.ticker(old).declare()
        assert (await world.record()).definition.digest == in_force
    assert await world.times() == [START + 15 * MINUTE, START + 30 * MINUTE]


async def test_a_release_that_was_rolled_back_to_takes_over_when_the_newer_is_gone(
    world: World,
) -> None:
    old = world.ticker(sweep(Every(10 * MINUTE)))
    await started(old)
    await started(world.ticker(sweep(Every(15 * MINUTE))))
    for _ in range(5):
        world.clock.now += MINUTE
        await old.declare()
    assert (await world.record()).definition.every_s == 600


async def test_a_schedule_that_no_worker_declares_any_more_stops(world: World) -> None:
    await started(world.ticker(sweep()))
    other = world.ticker()
    await world.pass_time(timedelta(hours=2), other)
    assert await world.times() == []
    assert (await world.record()).due_at is None
    ticker = await started(world.ticker(sweep()))
    assert await world.times() == [START + 2 * HOUR], "it came back, and catches up once"
    await world.end_all()
    await world.pass_time(10 * MINUTE, ticker)
    assert len(await world.times()) == 2


async def test_many_workers_that_declare_the_same_write_once_a_minute(world: World) -> None:
    tickers = [world.ticker(sweep()) for _ in range(10)]
    for ticker in tickers:
        await ticker.declare()
    await look(*tickers)
    before = world.ledger.schedules.saves
    for _ in range(6):
        world.clock.advance(50)
        for ticker in tickers:
            await ticker.declare()
    assert world.ledger.schedules.saves == before + 6


async def test_a_name_that_another_schedule_has_is_left_to_it(world: World) -> None:
    runtime = runtime_on(world.ledger, world.publisher)
    [definition] = definitions_of([sweep()], runtime.topology, runtime.settings)
    made = await put_on(world.ledger, replace(definition, every_s=77))
    await started(world.ticker(sweep()))
    assert (await world.record()).definition == made.definition


# Paused and resumed.


async def test_a_paused_schedule_does_not_tick_and_catches_nothing_up(world: World) -> None:
    ticker = await started(world.ticker(sweep()))
    await pause_schedule("sweep", world.ledger.schedules)
    for _ in range(30):
        await world.pass_time(MINUTE, ticker)
        await ticker.declare()
    assert await world.times() == []
    await resume_schedule("sweep", world.ledger.schedules)
    await world.pass_time(10 * MINUTE, ticker)
    assert await world.times() == [START + 40 * MINUTE]


async def test_a_pause_holds_over_a_change_of_the_schedule(world: World) -> None:
    await started(world.ticker(sweep()))
    await pause_schedule("sweep", world.ledger.schedules)
    ticker = await started(world.ticker(sweep(Every(MINUTE))))
    await world.pass_time(10 * MINUTE, ticker)
    assert await world.times() == []
    assert (await world.record()).paused
    await resume_schedule("sweep", world.ledger.schedules)
    await world.pass_time(MINUTE, ticker)
    assert await world.times() == [START + 11 * MINUTE]


async def test_a_tick_that_was_decided_is_carried_out_though_its_schedule_was_paused(
    world: World,
) -> None:
    ticker = await started(world.ticker(sweep()))
    world.clock.now += 10 * MINUTE
    await ticker.declare()
    world.ledger.schedules.break_after = 1
    with pytest.raises(LedgerUnavailable):
        await ticker.tick_once()
    world.ledger.schedules.break_after = None
    await pause_schedule("sweep", world.ledger.schedules)
    await world.pass_time(timedelta(seconds=10), ticker)
    record = await world.record()
    assert (record.pending, record.due_at, record.paused) == ((), None, True)
    assert await world.times() == [START + 10 * MINUTE]


async def test_a_schedule_that_nobody_has_is_named_with_those_there_are(world: World) -> None:
    await started(world.ticker(sweep()))
    with pytest.raises(UnknownSchedule, match="no schedule named 'sweeep'; known: sweep"):
        await pause_schedule("sweeep", world.ledger.schedules)


async def test_a_declared_schedule_is_not_removed_but_one_that_is_gone_is(world: World) -> None:
    await started(world.ticker(sweep()))
    with pytest.raises(InvalidOption, match="kiq cron pause sweep"):
        await remove_schedule("sweep", world.ledger.schedules)
    world.clock.now += timedelta(minutes=10)
    await remove_schedule("sweep", world.ledger.schedules)
    assert await world.ledger.schedules.find() == []


async def test_a_run_out_of_turn_changes_nothing_of_the_schedule(world: World) -> None:
    ticker = await started(world.ticker(sweep()))
    before = await world.record()
    job = await run_now(before.definition, before.now, ticker.runtime)
    assert (job.status, job.due_at) == (Status.SCHEDULED, world.clock.now)
    assert "planned_at" not in job.labels
    assert await world.record() == before


# Crashes and crowds.


async def test_a_decision_that_nobody_carried_out_is_carried_out_by_another(world: World) -> None:
    ticker = await started(world.ticker(sweep()))
    world.clock.now += 10 * MINUTE
    await ticker.declare()
    world.publisher.error = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        await ticker.tick_once()
    world.publisher.error = None
    await look(world.ticker())
    assert (await world.record()).pending != (), "it may still be at it"
    world.clock.advance(6)
    await look(world.ticker())
    record = await world.record()
    assert (record.pending, record.due_at) == ((), START + 20 * MINUTE)
    assert await world.times() == [START + 10 * MINUTE]


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_decided_tick_runs_as_it_was_though_its_schedule_is_made_anew(
    world: World, is_paused: bool
) -> None:
    runtime = runtime_on(world.ledger, world.publisher)
    [old] = definitions_of([sweep()], runtime.topology, runtime.settings)
    made = await put_on(world.ledger, old)
    world.clock.now += 10 * MINUTE
    tick = world.clock.now
    await world.ledger.schedules.save(replace(made, pending=(tick,), cursor=tick))
    if is_paused:
        await pause_schedule("sweep", world.ledger.schedules)
    new = replace(old, args_json='{"folder": "/new"}')
    assert (await put_on(world.ledger, new)).pending == ()
    [job] = await world.ledger.find(JobFilter())
    assert (job.args_json, planned_at(job)) == (old.args_json, tick)


async def test_one_schedule_that_cannot_be_fired_does_not_stop_the_others(world: World) -> None:
    ticker = await started(world.ticker(sweep()))
    lost = replace((await world.record()).definition, name="lost", queue="gone")
    await put_on(world.ledger, lost)
    await look(ticker)

    async def publish(job: Job) -> None:
        ticker.runtime.topology.queue(job.queue)

    ticker.runtime.publisher.publish_job = publish  # type: ignore[method-assign]
    world.clock.now += 10 * MINUTE
    await ticker.declare()
    await ticker.tick_once()
    assert [name for name, _ in await world.fired()] == ["lost", "sweep"]
    assert (await world.record()).pending == ()
    assert (await world.record("lost")).pending != (), "tried again, a little later"


async def test_a_schedule_that_this_release_cannot_read_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = world.ledger.schedules.get

    async def cannot_read(name: str) -> ScheduleRecord | None:
        if name == "newer":
            raise UnreadableSchedule(name, "ValueError")
        return await get(name)

    monkeypatch.setattr(world.ledger.schedules, "get", cannot_read)
    newer = Contract("newer", SweepArgs, int, schedule=Schedule(Every(10 * MINUTE)))
    await started(world.ticker(newer, sweep()))
    assert (await world.record()).declared


async def test_a_tick_that_another_release_has_fired_with_other_arguments_is_one_tick(
    world: World,
) -> None:
    ticker = await started(world.ticker(sweep()))
    record = await world.record()
    other = replace(record.definition, args_json='{"folder":"/other"}')
    assert await fire(other, START + 10 * MINUTE, ticker.runtime)
    await world.pass_time(10 * MINUTE, ticker)
    assert await world.times() == [START + 10 * MINUTE]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 8),
    st.sampled_from(list(Missed)),
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 200), st.booleans()), max_size=40),
    st.randoms(use_true_random=False),
)
def test_however_many_look_and_die_each_tick_is_fired_once(
    count: int, missed: Missed, steps: list[tuple[int, int, bool]], random: Any
) -> None:
    async def main() -> None:
        world = World.new()
        contract = sweep(Every(MINUTE), missed=missed, overlap=Overlap.ALLOW)
        tickers = [world.ticker(contract) for _ in range(count)]
        await asyncio.gather(*(ticker.declare() for ticker in tickers))
        for killed, seconds, renew in steps:
            world.clock.advance(seconds)
            if renew:
                await tickers[0].declare()
            looks = [asyncio.create_task(ticker.tick_once()) for ticker in tickers]
            for _ in range(random.randint(0, 12)):
                await asyncio.sleep(0)
            looks[killed % count].cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        world.clock.advance(6)
        await tickers[0].declare()
        await look(*tickers)
        fired = await world.times()
        assert len(set(fired)) == len(fired)
        inserts = [job.history[0].note for job in await world.ledger.find(JobFilter(), limit=9999)]
        assert len(inserts) == len(fired)
        if missed is Missed.ALL:
            until = world.clock.now.replace(second=0)
            wanted = [START + n * MINUTE for n in range(1, 1 + int((until - START) / MINUTE))]
            assert fired == wanted
        assert all(each.second == 0 for each in fired)
        record = await world.record()
        assert record.pending == ()

    asyncio.run(main())


# What cannot be declared.


def contracts(*schedules: Schedule | None) -> Iterable[Contract[Any, Any]]:
    for number, schedule in enumerate(schedules):
        yield Contract(f"task-{number}", SweepArgs, int, schedule=schedule)


def test_arguments_are_validated_when_a_schedule_is_declared() -> None:
    class Strict(BaseModel):
        folder: str

    with pytest.raises(InvalidArguments, match="folder: Field required"):
        Contract("strict", Strict, int, schedule=Schedule(Every(MINUTE)))
    with pytest.raises(InvalidArguments):
        Contract("strict", Strict, int, schedule=Schedule(Every(MINUTE), SweepArgs()))


def test_each_schedule_of_a_contract_has_a_name_of_its_own() -> None:
    two = (Schedule(Every(MINUTE)), Schedule(Every(HOUR)))
    with pytest.raises(InvalidOption, match="must be a different name for each"):
        Contract("sweep", SweepArgs, int, schedule=two)
    named = (two[0], replace(two[1], name="hourly"))
    contract = Contract("sweep", SweepArgs, int, schedule=named)
    runtime = runtime_on(MemoryLedger())
    found = definitions_of([contract], runtime.topology, runtime.settings)
    assert [(each.name, each.every_s) for each in found] == [("sweep", 60), ("hourly", 3600)]


def test_two_contracts_cannot_have_schedules_of_one_name() -> None:
    runtime = runtime_on(MemoryLedger())
    same = Schedule(Every(MINUTE), name="same")
    with pytest.raises(
        InvalidOption, match="must differ from the name of the schedule of 'task-0'"
    ):
        definitions_of(contracts(same, same), runtime.topology, runtime.settings)


def test_a_schedule_may_depend_on_the_settings() -> None:
    def regularly(settings: Any) -> Schedule | None:
        return Schedule(Every(HOUR)) if settings.log_level == "DEBUG" else None

    contract = Contract("sweep", SweepArgs, int, schedule=regularly)
    off, on = runtime_on(MemoryLedger()), runtime_on(MemoryLedger(), log_level="DEBUG")
    assert definitions_of([contract], off.topology, off.settings) == []
    assert len(definitions_of([contract], on.topology, on.settings)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"missed": "sometimes"},
        {"overlap": "maybe"},
        {"catch_up": timedelta(0)},
        {"catch_up": timedelta(days=32)},
        {"name": ""},
        {"name": "a\nb"},
    ],
)
def test_what_a_schedule_cannot_be_is_said_when_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Schedule(Every(MINUTE), **wrong)


def test_what_its_jobs_could_not_be_kiqed_with_is_refused() -> None:
    runtime = runtime_on(MemoryLedger())
    with pytest.raises(InvalidOption, match="priority"):
        definitions_of(contracts(Schedule(Every(MINUTE), priority=11)), runtime.topology,
                       runtime.settings)  # fmt: skip


def test_tick_ids_differ_by_name_and_time_and_are_the_same_everywhere() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert tick_id("sweep", at) == "6955b900" + tick_id("sweep", at + HOUR)[8:]
    assert tick_id("sweep", at) != tick_id("tidy", at)
    assert tick_id("sweep", at) != tick_id("sweep", at + timedelta(seconds=1))
    assert tick_id("sweep", at) == "6955b900dfd33796972c3baa", "two releases agree on it"
