"""An outage of MongoDB that is longer than the lease, while jobs run."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.trace import read_trace
from api_shared.testing.chaos.variables import SHORT_TIMES
from api_shared.testing.chaos.workers.load import hold

WORKERS = 2
LEASE_S = float(SHORT_TIMES["LEASE_S"])
AWAY_S = LEASE_S + 3
HELD = 20
"""Jobs that run through the whole outage, healthy all the while."""
NAP_S = 0.5


async def run(size: int, rng: Random, env: Environment) -> Report:
    workers = [await env.worker("--max-async-tasks", "30") for _ in range(WORKERS)]
    held = await env.kiq_many(HELD, hold, str(env.folder))
    await env.until_begun(held)
    await env.naps(size - HELD, NAP_S)
    mongodb = env.services.mongodb
    await asyncio.to_thread(mongodb.kill)
    env.say(f"MongoDB is killed, {AWAY_S:g} s for a lease of {LEASE_S:g} s")
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(mongodb.start)
    await env.until_ended(size - HELD)
    (env.folder / "go").touch()
    await env.drain()
    begun = read_trace(env.folder).begun
    again = [job_id for job_id in held if begun[job_id] != 1]
    env.check(not again, f"{len(again)} healthy running jobs were rescued")
    stayed = all(worker.log.count("worker.started") == 1 for worker in workers)
    env.check(stayed, "a worker process ended because MongoDB was away")
    return await env.report(away_s=AWAY_S, running_all_the_while=HELD)


SCENARIO = Scenario(
    name="mongodb-outage",
    fault="MongoDB killed, away for longer than the lease",
    holds="no loss, no job stuck, healthy running jobs are not rescued",
    small=200,
    full=3_000,
    run=run,
)
