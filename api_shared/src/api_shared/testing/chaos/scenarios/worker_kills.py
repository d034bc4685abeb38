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
"""About what the workers get done between two kills."""
NAP_S = 1.0
AT_ONCE = 20
"""Jobs at a time in each worker: so many that each kill interrupts some."""


async def run(size: int, rng: Random, ground: Environment) -> Report:
    """Each kill takes a worker that runs jobs at that moment."""
    workers = [await _start(ground) for _ in range(WORKERS)]
    await ground.reported(workers[0])
    kiqs = asyncio.create_task(ground.naps(size, NAP_S))
    await ground.until_ended(1)
    kills = 0
    while kills < size // JOBS_A_KILL and await ground.open_jobs():
        if at_work := await ground.at_work():
            victim = rng.choice(at_work)
            ground.kill(victim)
            workers.remove(victim)
            kills += 1
            ground.say(f"killed a worker; {await ground.open_jobs():,} jobs open")
            workers.append(await _start(ground))
        await asyncio.sleep(EVERY_S)
    await kiqs
    await ground.drain()
    return await ground.report(kills=kills)


async def _start(ground: Environment) -> WorkerProcess:
    env = {"TASK_MAX_LOST": "100"}  # the jobs are innocent of their workers' deaths
    return await ground.worker("--max-async-tasks", str(AT_ONCE), ready=False, env=env)


SCENARIO = Scenario(
    name="worker-kills",
    fault=f"kill -9 of one of {WORKERS} workers every {EVERY_S:g} s",
    holds="one terminal status each",
    small=500,
    full=10_000,
    run=run,
)
