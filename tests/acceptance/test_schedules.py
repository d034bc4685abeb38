"""What runs regularly, on real servers with real workers: killed, skewed, replaced."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from api_shared import LedgerScheduleSource
from api_shared.job import Job, Status
from api_shared.ledger.protocol import JobFilter
from api_shared.schedules.schedule import ScheduleRecord, tick_id
from api_shared.schedules.store import pause_schedule
from api_shared.worker.maintenance.periodic_jobs import PeriodicJobs
from fixtures.workers import LONG_S, Platform, until
from jobs.scheduled import broker, remind

WORKER = "jobs.scheduled:broker"
QUIET = ("beat", "count", "linger")
"""Schedules that tick each second: each test lets those of its own do it."""


async def record(platform: Platform, name: str) -> ScheduleRecord:
    found = await platform.ledger.schedules.get(name)
    assert found is not None
    return found


async def prepared(platform: Platform, *loud: str) -> None:
    """The schedules as a worker of before has declared them; of `QUIET` none but `loud` tick."""
    await PeriodicJobs(platform.general.runtime, lambda: broker.contracts, Random(0)).declare()
    for name in set(QUIET) - set(loud):
        await pause_schedule(name, platform.ledger.schedules)


async def moved_back(platform: Platform, name: str, by: timedelta) -> datetime:
    """As if nobody had looked at a schedule for so long; its cursor."""
    while True:
        found = await record(platform, name)
        cursor = (found.cursor - by).replace(microsecond=0)
        back = replace(found, cursor=cursor, due_at=found.now, pending=(), paused=False)
        if await platform.ledger.schedules.save(back) is not None:
            return cursor


async def ticks(platform: Platform, task: str) -> dict[datetime, Job]:
    """The jobs of a schedule by their planned time: one for each, or this fails."""
    jobs = await platform.ledger.find(JobFilter(task=task), limit=10_000)
    found = {datetime.fromisoformat(job.labels["planned_at"]): job for job in jobs}
    assert len(found) == len(jobs), "a tick was fired twice"
    for planned, job in found.items():
        assert job.id == tick_id(task, planned)
    return found


async def are_completed(platform: Platform, task: str, count: int) -> bool:
    jobs = (await ticks(platform, task)).values()
    return sum(job.status is Status.COMPLETED for job in jobs) >= count


async def test_schedules_of_a_contract_tick_on_two_workers_and_survive_a_kill(
    platform: Platform,
) -> None:
    await prepared(platform, "beat", "linger")
    first = await platform.worker(WORKER, ready=False)
    await platform.worker(WORKER, ready=False)
    await until(lambda: are_completed(platform, "beat", 3), what="three beats")
    first.kill()
    before = len(await ticks(platform, "beat"))
    await until(lambda: are_completed(platform, "beat", before + 3), what="it goes on")
    await until(lambda: are_completed(platform, "linger", 3), what="those that wait go on too")
    waited = sorted((await ticks(platform, "linger")).items())
    for (_, earlier), (_, later) in pairwise(waited[:3]):
        assert earlier.ended_at is not None
        assert later.accepted_at >= earlier.ended_at, "they did not run side by side"
    yearly = await record(platform, "yearly")
    assert yearly.next_at is not None
    assert yearly.next_at.astimezone(UTC).strftime("%m-%d %H:%M") == "02-28 23:00"


async def test_what_fell_due_while_all_was_down_follows_the_policy(platform: Platform) -> None:
    await prepared(platform)
    cursor = await moved_back(platform, "count", timedelta(seconds=150))
    await moved_back(platform, "sweep", timedelta(hours=5))
    await platform.worker(WORKER, ready=False)
    await until(lambda: are_completed(platform, "count", 150), what="all that was missed")
    counted = await ticks_until_paused(platform, "count")
    assert counted == [cursor + timedelta(seconds=n) for n in range(1, len(counted) + 1)]
    await until(lambda: are_completed(platform, "sweep", 1), what="one sweep for five hours")
    assert len(await ticks(platform, "sweep")) == 1


async def ticks_until_paused(platform: Platform, name: str) -> list[datetime]:
    """All that were decided, and carried out."""
    await pause_schedule(name, platform.ledger.schedules)

    async def has_settled() -> bool:
        return not (await record(platform, name)).pending

    await until(has_settled, what="what was decided is carried out")
    return sorted(await ticks(platform, name))


async def test_a_new_release_takes_over_and_an_old_one_that_restarts_changes_nothing(
    platform: Platform,
) -> None:
    await prepared(platform)
    await platform.worker(WORKER, ready=False, SWEEP_EVERY_S="3600")
    await platform.worker(WORKER, ready=False, SWEEP_EVERY_S="1800")

    async def every_s() -> int | None:
        return (await record(platform, "sweep")).definition.every_s

    async def is_new() -> bool:
        return await every_s() == 1800

    await until(is_new, what="the new release's schedule is in force")

    async def was_seen_by_both() -> bool:
        return len((await record(platform, "sweep")).declared) == 2

    await until(was_seen_by_both, what="the old release has declared its own")
    restarted = await platform.worker(WORKER, SWEEP_EVERY_S="3600")
    assert await is_new()
    assert "schedule.taken_over" not in restarted.log


async def test_schedules_made_by_calls_of_taskiq_fire_and_survive_restarts(
    platform: Platform,
) -> None:
    await prepared(platform)
    await platform.start(broker)
    source = LedgerScheduleSource(broker)
    by_interval = await remind.schedule_by_interval(source, 1, "again")
    soon = datetime.now(UTC) + timedelta(seconds=1)
    by_time = await remind.schedule_by_time(source, soon, "once")
    for _ in range(2):
        worker = await platform.worker(WORKER, ready=False)
        done = await completed_by(platform, by_interval.schedule_id)

        async def more(done: int = done) -> bool:
            return await completed_by(platform, by_interval.schedule_id) >= done + 2

        await until(more, what="it ticks")
        worker.kill()
    await platform.worker(WORKER, ready=False)
    await platform.status_of(by_time.schedule_id, Status.COMPLETED)
    await by_interval.unschedule()
    assert await source.get_schedules() == []


async def completed_by(platform: Platform, name: str) -> int:
    jobs = await platform.ledger.find(JobFilter(task="remind"), limit=1000)
    mine = [job for job in jobs if job.labels.get("schedule") == name]
    assert len({job.id for job in mine}) == len(mine)
    return sum(job.status is Status.COMPLETED for job in mine)


async def test_taskiqs_own_scheduler_beside_it_fires_nothing(platform: Platform) -> None:
    await platform.start(broker)
    source = LedgerScheduleSource(broker)
    await remind.schedule_by_interval(source, 1, "again")
    await remind.schedule_by_time(source, datetime.now(UTC) + timedelta(hours=1), "later")
    from taskiq import TaskiqScheduler
    from taskiq.cli.scheduler.run import SchedulerLoop

    asked = asyncio.Event()

    class Watched(LedgerScheduleSource):
        def pre_send(self, task: object) -> None:
            asked.set()
            super().pre_send(task)  # type: ignore[arg-type]

    loop = SchedulerLoop(TaskiqScheduler(broker, [Watched(broker)]))
    running = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(LONG_S):
            await asked.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    jobs = await platform.ledger.find(JobFilter(task="remind"))
    assert [job.status for job in jobs] == [Status.SCHEDULED]
