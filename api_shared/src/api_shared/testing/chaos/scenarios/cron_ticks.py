"""Ten dispatchers fire the same ticks, and some of them are killed over it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from random import Random

from api_shared.job import Job
from api_shared.ledger.protocol import JobFilter
from api_shared.schedules.schedule import ScheduleRecord
from api_shared.schedules.store import find_schedule, pause_schedule
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.waiting import until
from api_shared.testing.chaos.worker_process import WorkerProcess

WORKERS, PROCESSES = 5, 2
KILL_AT = (0.1, 0.5)
"""Shares of the ticks; a last worker is killed while it runs some."""
TASKS = "api_shared.testing.chaos.cron_tasks"
NAME = "chaos.tick"
WITHIN_S = 300.0


async def run(size: int, rng: Random, ground: Environment) -> Report:
    workers = [await _start(ground) for _ in range(WORKERS)]
    for worker in workers:
        await ground.reported(worker, PROCESSES)
    await until(lambda: ground.ledger.schedules.get(NAME), WITHIN_S, "the schedule is declared")
    start = await _missed(size, ground)
    for share in KILL_AT:
        await until(partial(_has, share * size, ground), WITHIN_S, "ticks are fired")
        await _kill(rng.choice(workers), workers, ground)
    await until(partial(_has, size, ground), WITHIN_S, "all ticks are fired")
    at_work = await until(ground.at_work, WITHIN_S, "a worker runs ticks")
    await _kill(rng.choice(at_work), workers, ground)
    await pause_schedule(NAME, ground.ledger.schedules)
    await until(partial(_has_settled, ground), WITHIN_S, "what was decided is carried out")
    jobs = await _jobs(ground)
    ground.accepted.update(job.id for job in jobs)
    await ground.drain()
    planned = sorted(datetime.fromisoformat(job.labels["planned_at"]) for job in jobs)
    wanted = [start + timedelta(seconds=number) for number in range(1, len(set(planned)) + 1)]
    ground.check(len(planned) == len(set(planned)), "a tick was fired twice")
    ground.check(sorted(set(planned)) == wanted, "a tick was left out")
    return await ground.report(ticks=len(planned), kills=len(ground.workers) - WORKERS)


async def _start(ground: Environment) -> WorkerProcess:
    env = {"TASK_MAX_LOST": "100"}  # the ticks are innocent of their workers' deaths
    return await ground.worker(modules=(TASKS,), processes=PROCESSES, ready=False, env=env)


async def _kill(victim: WorkerProcess, workers: list[WorkerProcess], ground: Environment) -> None:
    """And another one in its place."""
    ground.kill(victim)
    ground.say(f"killed a worker; {len(await _jobs(ground))} ticks fired")
    workers[workers.index(victim)] = await _start(ground)


async def _missed(size: int, ground: Environment) -> datetime:
    """As if nobody had looked for `size` seconds; the time up to which ticks are settled."""
    while True:
        found = await find_schedule(NAME, ground.ledger.schedules)
        if found.pending:
            continue
        cursor = found.cursor.replace(microsecond=0) - timedelta(seconds=size)
        if await ground.ledger.schedules.save(replace(found, cursor=cursor, due_at=found.now)):
            return cursor


async def _jobs(ground: Environment) -> list[Job]:
    return await ground.ledger.find(JobFilter(task=NAME), limit=100_000)


async def _has(count: float, ground: Environment) -> bool:
    return len(await _jobs(ground)) >= count


async def _has_settled(ground: Environment) -> ScheduleRecord | None:
    record = await find_schedule(NAME, ground.ledger.schedules)
    return None if record.pending else record


SCENARIO = Scenario(
    name="cron-ticks",
    fault=f"kill -9 of {len(KILL_AT) + 1} of {WORKERS} workers ({WORKERS * PROCESSES} dispatchers) "
    "while they fire ticks that were missed",
    holds="each tick is fired once",
    small=200,
    full=1_000,
    run=run,
)
