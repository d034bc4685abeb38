"""What every ledger's book of schedules does: the one in MongoDB and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel

from api_shared import Contract, Every, Missed, Overlap, Schedule
from api_shared.job import Status
from api_shared.ledger.change import NowPlus
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Complete, Insert
from api_shared.ledger.protocol import JobFilter, Ledger
from api_shared.ledger.transitions import cancel_waiting
from api_shared.schedules.planning import new_record
from api_shared.schedules.schedule import Declaration, Definition, ScheduleRecord
from api_shared.schedules.store import remove_schedule
from api_shared.testing.waiting import until
from api_shared.worker.maintenance.periodic_jobs import PeriodicJobs
from fixtures.doubles import RecordingPublisher, runtime_on
from fixtures.ledgers import a_job, claimed, inserted, mongo_ledger
from fixtures.schedules import put_on

PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["memory", "mongodb"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    async with mongo_ledger(request.getfixturevalue("services").mongodb.url) as ledger:
        yield ledger


def definition(name: str = "sweep", **fields: Any) -> Definition:
    defaults = {"broker": "general", "task": "sweep", "queue": "low", "args_json": "{}"}
    return Definition(name, **{**defaults, "every_s": 600, **fields})


def record(name: str = "sweep", **fields: Any) -> ScheduleRecord:
    wording = {"broker": fields.pop("broker")} if "broker" in fields else {}
    state = {"cursor": PAST, "due_at": None, **fields}
    return ScheduleRecord(definition(name, **wording), **state)


async def saved(ledger: Ledger, one: ScheduleRecord) -> ScheduleRecord:
    after = await ledger.schedules.save(one)
    assert after is not None
    return after


async def test_a_record_comes_back_as_it_was_saved(ledger: Ledger) -> None:
    full = ScheduleRecord(
        definition(
            "$a.b 🦊",
            cron="*/5 * * * *",
            every_s=None,
            zone="Europe/Berlin",
            args_json='{"x": "\\ud800"}',
            missed=Missed.ALL,
            overlap=Overlap.WAIT,
            catch_up_s=77,
            priority=3,
            owner="$owner",
            labels={"$k.x": "v", "": "$NOW"},
        ),
        cursor=PAST,
        due_at=FUTURE,
        paused=True,
        is_waiting=True,
        pending=(PAST, PAST + timedelta(seconds=1)),
        last_tick_at=PAST,
        last_job_id="6955b900dfd33796972c3baa",
        declared=(Declaration("abc", PAST, FUTURE),),
    )
    await saved(ledger, full)
    found = await ledger.schedules.get(full.name)
    assert found == replace(full, seq=1)
    assert found is not None
    assert found.definition.digest == full.definition.digest
    bare = record("bare")
    await saved(ledger, bare)
    assert await ledger.schedules.get("bare") == replace(bare, seq=1)


async def test_what_is_read_says_the_ledgers_time(ledger: Ledger) -> None:
    before = await ledger.schedules.now()
    await saved(ledger, record(due_at=PAST))
    for [found] in (await ledger.schedules.find(), await ledger.schedules.due("general")):
        assert before <= found.now <= await ledger.schedules.now()
    assert abs(before - datetime.now(UTC)) < timedelta(minutes=10)


async def test_a_record_is_saved_only_as_it_was_read(ledger: Ledger) -> None:
    first = await saved(ledger, record())
    assert await ledger.schedules.save(record()) is None, "there is one"
    second = await saved(ledger, replace(first, paused=True))
    assert await ledger.schedules.save(replace(first, cursor=FUTURE)) is None
    found = await ledger.schedules.get("sweep")
    assert found == second
    assert found is not None
    assert (found.paused, found.cursor, found.seq) == (True, PAST, 2)
    assert await ledger.schedules.save(replace(record("other"), seq=4)) is None


async def test_of_many_who_save_at_once_one_does(ledger: Ledger) -> None:
    answers = await asyncio.gather(*(ledger.schedules.save(record()) for _ in range(10)))
    assert sum(answer is not None for answer in answers) == 1
    [first] = [answer for answer in answers if answer is not None]
    rivals = [replace(first, cursor=PAST + timedelta(days=n)) for n in range(10)]
    answers = await asyncio.gather(*(ledger.schedules.save(rival) for rival in rivals))
    [winner] = [answer for answer in answers if answer is not None]
    assert await ledger.schedules.get("sweep") == winner


async def test_due_are_those_of_a_broker_whose_time_has_come_the_longest_first(
    ledger: Ledger,
) -> None:
    now = await ledger.schedules.now()
    for name, due_at in {
        "b": now - timedelta(seconds=5),
        "a": now - timedelta(seconds=1),
        "later": now + timedelta(hours=1),
        "never": None,
    }.items():
        await saved(ledger, record(name, due_at=due_at))
    await saved(ledger, record("other", broker="ml", due_at=PAST))
    assert [each.name for each in await ledger.schedules.due("general")] == ["b", "a"]
    assert [each.name for each in await ledger.schedules.due("ml")] == ["other"]


async def test_records_are_found_by_name_and_broker(ledger: Ledger) -> None:
    for name, broker in (("b", "general"), ("a", "ml"), ("c", "general")):
        await saved(ledger, record(name, broker=broker))
    assert [each.name for each in await ledger.schedules.find()] == ["a", "b", "c"]
    assert [each.name for each in await ledger.schedules.find("general")] == ["b", "c"]
    assert await ledger.schedules.get("d") is None


async def test_a_record_is_deleted_only_as_it_was_read(ledger: Ledger) -> None:
    first = await saved(ledger, record())
    second = await saved(ledger, replace(first, paused=True))
    assert await ledger.schedules.delete(first) is False
    assert await ledger.schedules.delete(second) is True
    assert await ledger.schedules.delete(second) is False
    assert await ledger.schedules.get("sweep") is None
    assert await saved(ledger, record())


async def test_a_schedule_is_made_replaced_and_removed(ledger: Ledger) -> None:
    made = await put_on(ledger, definition())
    assert made.declared == ()
    assert await put_on(ledger, definition()) == made
    changed = await put_on(ledger, definition(every_s=60))
    assert changed.definition.every_s == 60
    assert changed.cursor >= made.cursor
    await remove_schedule("sweep", ledger.schedules)
    assert await ledger.schedules.find() == []


async def test_a_job_is_kept_until_the_time_it_says_and_no_shorter(ledger: Ledger) -> None:
    async def with_keep(at: datetime) -> str:
        job = a_job(keep_until=at)
        await ledger.apply(Insert(job, NowPlus(30)))
        return job.id

    long, short = await with_keep(FUTURE), await with_keep(PAST)
    plain = (await inserted(ledger)).id
    for job_id in (long, short, plain):
        _, token = await claimed(ledger, job_id)
        assert await ledger.apply(Complete(job_id, token, 3, result_json="1", retention_s=60))
        job = await ledger.get(job_id)
        assert job is not None
        assert job.ended_at is not None
        wanted = FUTURE if job_id == long else job.ended_at + timedelta(seconds=60)
        assert job.expires_at == wanted
    cancelled = await with_keep(FUTURE)
    job = await ledger.change(cancel_waiting(cancelled, retention_s=1))
    assert job is not None
    assert (job.status, job.expires_at) == (Status.CANCELLED, FUTURE)


async def test_ten_tickers_fire_each_missed_tick_once_while_some_are_cancelled(
    ledger: Ledger,
) -> None:
    class Nothing(BaseModel):
        pass

    schedule = Schedule(Every(timedelta(seconds=60)), missed=Missed.ALL, overlap=Overlap.ALLOW)
    contract = Contract("sweep", Nothing, int, schedule=schedule)
    runtime = replace(runtime_on(MemoryLedger(), RecordingPublisher()), ledger=ledger)
    tickers = [PeriodicJobs(runtime, lambda: (contract,), Random(n)) for n in range(10)]
    await tickers[0].declare()
    declared = await ledger.schedules.get("sweep")
    assert declared is not None
    past = declared.cursor.replace(second=0, microsecond=0) - timedelta(minutes=250)
    await saved(ledger, replace(declared, cursor=past))
    for kill in range(4):
        looks = [asyncio.create_task(ticker.tick_once()) for ticker in tickers]
        await asyncio.sleep(0.01 * kill)
        for doomed in looks[: 2 * kill]:
            doomed.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def settled() -> bool:
        found = await ledger.schedules.get("sweep")
        assert found is not None
        if found.pending:  # the time has passed in which whoever decided could still be at it
            await ledger.schedules.save(replace(found, due_at=found.now))
        await tickers[0].tick_once()
        return not found.pending and found.due_at is not None and found.due_at > found.now

    await until(settled, within_s=60)
    jobs = await ledger.find(JobFilter(), limit=1000)
    planned = sorted(datetime.fromisoformat(job.labels["planned_at"]) for job in jobs)
    wanted = [past + timedelta(minutes=n) for n in range(1, 251)]
    assert planned[:250] == wanted
    assert len(set(planned)) == len(planned) <= 252
    assert all(len(job.history) == 1 for job in jobs)


def test_a_new_record_ticks_from_its_declaration_on() -> None:
    fresh = new_record(definition(), PAST)
    assert (fresh.cursor, fresh.due_at, fresh.next_at) == (PAST, PAST, PAST + timedelta(minutes=10))
