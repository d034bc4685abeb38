"""kill -9 of one of four workers, again and again."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.worker_process import WorkerProcess

WORKERS = 4
EVERY_S = 3.0
JOBS_A_KILL = 150
"""About as many as the workers complete between two kills."""
NAP_S = 1.0
AT_ONCE = 20
"""Jobs at a time in each worker: so many that each kill interrupts some."""


async def run(size: int, rng: Random, env: Environment) -> Report:
    """Each kill takes a worker that runs jobs at that moment."""
    workers = [await _start(env) for _ in range(WORKERS)]
    await env.reported(workers[0])
    kiqs = asyncio.create_task(env.naps(size, NAP_S))
    await env.until_ended(1)
    kills = 0
    while kills < size // JOBS_A_KILL and await env.open_jobs():
        if at_work := await env.at_work():
            victim = rng.choice(at_work)
            env.kill(victim)
            workers.remove(victim)
            kills += 1
            env.say(f"killed a worker; {await env.open_jobs():,} jobs open")
            workers.append(await _start(env))
        await asyncio.sleep(EVERY_S)
    await kiqs
    await env.drain()
    return await env.report(kills=kills)


async def _start(env: Environment) -> WorkerProcess:
    variables = {"TASK_MAX_LOST": "100"}  # the jobs are not the cause of their workers' deaths
    return await env.worker("--max-async-tasks", str(AT_ONCE), ready=False, variables=variables)


SCENARIO = Scenario(
    name="worker-kills",
    fault=f"kill -9 of one of {WORKERS} workers every {EVERY_S:g} s",
    holds="one terminal status each",
    small=500,
    full=10_000,
    run=run,
)
