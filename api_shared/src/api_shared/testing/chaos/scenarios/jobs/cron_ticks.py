"""Ten dispatchers that fire the same ticks, some of which are killed while they do."""

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
from api_shared.testing.chaos.worker_process import WorkerProcess
from api_shared.testing.waiting import until

WORKERS, PROCESSES = 5, 2
KILL_AT = (0.1, 0.5)
"""Shares of the ticks. A last worker is killed while it runs some."""
TASKS = "api_shared.testing.chaos.workers.cron_tasks"
NAME = "chaos.tick"
WITHIN_S = 300.0


async def run(size: int, rng: Random, env: Environment) -> Report:
    workers = [await _start(env) for _ in range(WORKERS)]
    for worker in workers:
        await env.reported(worker, PROCESSES)
    await until(lambda: env.ledger.schedules.get(NAME), WITHIN_S, "the schedule is declared")
    start = await _missed(size, env)
    for share in KILL_AT:
        await until(partial(_has, share * size, env), WITHIN_S, "ticks are fired")
        await _kill(rng.choice(workers), workers, env)
    await until(partial(_has, size, env), WITHIN_S, "all ticks are fired")
    at_work = await until(env.at_work, WITHIN_S, "a worker runs ticks")
    await _kill(rng.choice(at_work), workers, env)
    await pause_schedule(NAME, env.ledger.schedules)
    await until(partial(_has_settled, env), WITHIN_S, "what was decided is carried out")
    jobs = await _jobs(env)
    env.accepted.update(job.id for job in jobs)
    await env.drain()
    planned = sorted(datetime.fromisoformat(job.labels["planned_at"]) for job in jobs)
    expected = [start + timedelta(seconds=number) for number in range(1, len(set(planned)) + 1)]
    env.check(len(planned) == len(set(planned)), "a tick was fired twice")
    env.check(sorted(set(planned)) == expected, "a tick was left out")
    return await env.report(ticks=len(planned), kills=len(env.workers) - WORKERS)


async def _start(env: Environment) -> WorkerProcess:
    variables = {"TASK_MAX_LOST": "100"}  # the ticks are not the cause of their workers' deaths
    return await env.worker(modules=(TASKS,), processes=PROCESSES, ready=False, variables=variables)


async def _kill(victim: WorkerProcess, workers: list[WorkerProcess], env: Environment) -> None:
    """Kill one worker and start another in its place."""
    env.kill(victim)
    env.say(f"killed a worker; {len(await _jobs(env))} ticks fired")
    workers[workers.index(victim)] = await _start(env)


async def _missed(size: int, env: Environment) -> datetime:
    """
    Act as if no dispatcher had run for `size` seconds. Returns the time up to which ticks are
    settled.
    """
    while True:
        found = await find_schedule(NAME, env.ledger.schedules)
        if found.pending:
            continue
        cursor = found.cursor.replace(microsecond=0) - timedelta(seconds=size)
        if await env.ledger.schedules.save(replace(found, cursor=cursor, due_at=found.now)):
            return cursor


async def _jobs(env: Environment) -> list[Job]:
    return await env.ledger.find(JobFilter(task=NAME), limit=100_000)


async def _has(count: float, env: Environment) -> bool:
    return len(await _jobs(env)) >= count


async def _has_settled(env: Environment) -> ScheduleRecord | None:
    record = await find_schedule(NAME, env.ledger.schedules)
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
