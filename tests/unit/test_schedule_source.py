"""Code that was written for taskiq's scheduler: its schedules are the ledger's, and fire once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from taskiq import ScheduledTask, TaskiqScheduler
from taskiq.scheduler.scheduled_task import CronSpec

from api_shared import JobBroker, LedgerScheduleSource, Missed, Overlap, Status
from api_shared.client.periodic import definitions_of
from api_shared.errors import InvalidArguments, InvalidOption, UnknownTask
from api_shared.job import new_job_id
from api_shared.ledger.protocol import JobFilter
from api_shared.testing import Place, default_settings, running_in_place

HOUR = timedelta(hours=1)


@pytest.fixture
def broker() -> Iterator[JobBroker]:
    yield JobBroker("own")
    del JobBroker.made["own"]


@pytest.fixture
def source(broker: JobBroker) -> LedgerScheduleSource:
    return LedgerScheduleSource(broker)


async def only_record(place: Place) -> object:
    [record] = await place.ledger.schedules.find()
    return record


async def test_by_cron_and_by_interval_a_task_runs_until_it_is_unscheduled(
    broker: JobBroker, source: LedgerScheduleSource
) -> None:
    ran: list[str] = []

    @broker.task
    async def note(word: str, times: int = 1) -> None:
        ran.extend([word] * times)

    async with running_in_place(broker) as place:
        by_cron = await note.schedule_by_cron(source, "*/30 * * * *", "cron", times=2)
        by_interval = await note.schedule_by_interval(source, HOUR, "interval")
        await place.advance(3 * HOUR)
        assert (ran.count("cron"), ran.count("interval")) == (12, 3)
        await by_cron.unschedule()
        await place.advance(3 * HOUR)
        assert (ran.count("cron"), ran.count("interval")) == (12, 6)
        await source.delete_schedule(by_interval.schedule_id)
        await place.advance(3 * HOUR)
        assert ran.count("interval") == 6
        assert await source.get_schedules() == []


async def test_by_time_it_is_a_scheduled_job_with_the_schedules_id(
    broker: JobBroker, source: LedgerScheduleSource
) -> None:
    ran: list[str] = []

    @broker.task
    async def note(word: str) -> None:
        ran.append(word)

    async with running_in_place(broker) as place:
        at = datetime.now(UTC) + 2 * HOUR
        first = await note.schedule_by_time(source, at, "first")
        naive = await note.schedule_by_time(source, at.replace(tzinfo=None), "naive")
        dropped = await note.schedule_by_time(source, at, "dropped")
        named = await note.kicker().with_schedule_id("my own").schedule_by_time(source, at, "named")
        job_id = new_job_id()
        own = await note.kicker().with_task_id(job_id).schedule_by_time(source, at, "own id")
        assert own.schedule_id == job_id
        assert await broker.handle(first.schedule_id).status() is Status.SCHEDULED
        assert len(await source.get_schedules()) == 5
        await dropped.unschedule()
        await named.unschedule()
        await place.advance(HOUR)
        assert ran == []
        await place.advance(HOUR)
        assert sorted(ran) == ["first", "naive", "own id"]
        for schedule in (first, naive, own):
            await schedule.unschedule()  # late: no error, and nothing is undone
        assert await broker.handle(job_id).status() is Status.COMPLETED


async def test_zones_and_offsets_of_taskiqs_cron_count(
    broker: JobBroker, source: LedgerScheduleSource
) -> None:
    @broker.task
    async def note() -> None: ...

    async with running_in_place(broker) as place:
        for number, offset in enumerate(["Europe/Berlin", timedelta(hours=-3, minutes=-30), None]):
            kicker = note.kicker().with_schedule_id(str(number))
            spec = CronSpec(minutes=0, hours=12, offset=offset)
            await kicker.schedule_by_cron(source, spec)
        records = await place.ledger.schedules.find()
        assert [each.definition.zone for each in records] == ["Europe/Berlin", "-03:30", "UTC"]
        assert [each.definition.cron for each in records] == ["0 12 * * *"] * 3
        listed = {each.schedule_id: each for each in await source.get_schedules()}
        assert listed["0"].cron_offset == "Europe/Berlin"
        for name, schedule in listed.items():
            record = await place.ledger.schedules.get(name)
            await source.add_schedule(schedule)
            assert await place.ledger.schedules.get(name) == record, "comes back as it was"


async def test_labels_priority_and_policies_reach_the_jobs(broker: JobBroker) -> None:
    source = LedgerScheduleSource(
        broker, missed=Missed.ALL, overlap=Overlap.WAIT, catch_up=timedelta(hours=3)
    )

    @broker.task
    async def note() -> None: ...

    async with running_in_place(broker) as place:
        kicker = note.kicker().with_labels(priority=7, owner="ann", colour="red")
        await kicker.with_schedule_id("noted").schedule_by_interval(source, 60)
        record = await place.ledger.schedules.get("noted")
        assert record is not None
        definition = record.definition
        assert (definition.missed, definition.overlap) == (Missed.ALL, Overlap.WAIT)
        assert definition.catch_up_s == 3 * 3600
        await place.advance(timedelta(minutes=1))
        [job] = await place.ledger.find(JobFilter())
        assert (job.priority, job.owner, job.labels["colour"]) == (7, "ann", "red")
        assert job.labels["schedule"] == "noted"


async def test_what_cannot_run_cannot_be_scheduled(
    broker: JobBroker, source: LedgerScheduleSource
) -> None:
    @broker.task
    async def note(word: str) -> None: ...

    async with running_in_place(broker) as place:
        with pytest.raises(InvalidArguments):
            await note.schedule_by_interval(source, 60, 5)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="five fields"):
            await note.schedule_by_cron(source, "often", "x")
        wrong = ScheduledTask(task_name="none", labels={}, args=[], kwargs={}, interval=60)
        with pytest.raises(UnknownTask):
            await source.add_schedule(wrong)
        assert await place.ledger.schedules.find() == []


async def test_taskiqs_scheduler_sends_nothing_of_this_source(
    broker: JobBroker, source: LedgerScheduleSource
) -> None:
    @broker.task
    async def note() -> None: ...

    async with running_in_place(broker) as place:
        await note.schedule_by_interval(source, 60)
        await note.schedule_by_time(source, datetime.now(UTC) + HOUR)
        scheduler = TaskiqScheduler(broker, [source])
        for schedule in await source.get_schedules():
            await scheduler.on_ready(source, schedule)
        jobs = await place.ledger.find(JobFilter())
        assert [job.status for job in jobs] == [Status.SCHEDULED]


def test_taskiqs_schedule_label_becomes_the_contracts_and_is_no_label_any_more(
    broker: JobBroker,
) -> None:
    @broker.task(
        task_name="note",
        schedule=[
            {"cron": "0 6 * * *", "cron_offset": "Europe/Berlin", "args": ["x"]},
            {"interval": 30, "kwargs": {"word": "y"}, "labels": {"priority": 3, "k": 1}},
        ],
        colour="red",
    )
    async def note(word: str) -> None: ...

    assert note.labels == {"colour": "red"}
    from api_shared.transport.topology import topology_of

    settings = default_settings()
    found = definitions_of(broker.contracts, topology_of("own", settings), settings)
    assert [(d.name, d.cron, d.every_s, d.zone) for d in found] == [
        ("note:1", "0 6 * * *", None, "Europe/Berlin"),
        ("note:2", None, 30, "UTC"),
    ]
    assert [d.args_json for d in found] == ['{"word":"x"}', '{"word":"y"}']
    assert (found[1].priority, found[1].labels) == (3, {"k": "1"})


def test_a_single_time_as_a_label_is_refused_with_the_way_out(broker: JobBroker) -> None:
    with pytest.raises(InvalidOption, match=r"kiq\(at=...\)"):

        @broker.task(schedule=[{"time": datetime.now(UTC)}])
        async def note() -> None: ...
