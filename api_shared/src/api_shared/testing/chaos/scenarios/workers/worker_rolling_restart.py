"""Restarts of all workers, one after the other, under load."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.trace import read_trace
from api_shared.testing.chaos.workers.load import nap
from api_shared.testing.waiting import until

WORKERS = 2
RESTARTS = 10
FLAGS = ("--max-async-tasks", "20")
SHORT_S, LONG_S = 0.3, 12.0
"""The long ones take longer than a drain: they are interrupted and run again."""
LONG = 2
"""Long jobs at each restart."""


async def run(size: int, rng: Random, env: Environment) -> Report:
    restarts = RESTARTS if size >= RESTARTS * 100 else 1
    workers = [await env.worker(*FLAGS) for _ in range(WORKERS)]
    folder = str(env.folder)
    for number in range(restarts):
        for place, worker in enumerate(workers):
            workers[place] = await env.worker(*FLAGS)
            seconds = [SHORT_S] * (size // restarts // WORKERS)
            seconds[:LONG] = [LONG_S] * LONG
            rng.shuffle(seconds)
            begun = read_trace(env.folder).begun.total()
            await asyncio.gather(*(env.kiq(nap, folder, each) for each in seconds))
            await until(partial(_more_began, env, begun), 60, "jobs run")
            worker.terminate()
            code = await worker.wait(60)
            env.check(code == 0, f"a worker that was to stop exited with {code}")
        env.say(f"restart {number + 1} of {restarts}; {await env.open_jobs()} jobs open")
    await env.drain()
    jobs = await every_job(env.ledger)
    spent = [job.id for job in jobs if job.attempt or job.lost]
    env.check(not spent, f"{len(spent)} jobs were charged for a restart")
    handed_on = sum(job.claim_no > 1 for job in jobs)
    return await env.report(restarts=restarts * WORKERS, handed_on=handed_on)


def _more_began(env: Environment, begun: int) -> bool:
    return read_trace(env.folder).begun.total() >= begun + 2 * LONG


SCENARIO = Scenario(
    name="worker-rolling-restart",
    fault="all workers are restarted one by one (SIGTERM), again and again, under load",
    holds="no attempt is spent on it; each exits with 0",
    small=100,
    full=2_000,
    run=run,
)
