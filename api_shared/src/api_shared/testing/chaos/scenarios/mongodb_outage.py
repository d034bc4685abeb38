"""MongoDB is away for longer than the lease, while jobs run."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import SHORT_TIMES, Environment
from api_shared.testing.chaos.load import hold
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.trace import read_trace

WORKERS = 2
LEASE_S = float(SHORT_TIMES["LEASE_S"])
AWAY_S = LEASE_S + 3
HELD = 20
"""Jobs that run through the whole outage, healthy all the while."""
NAP_S = 0.5


async def run(size: int, rng: Random, ground: Environment) -> Report:
    for _ in range(WORKERS):
        await ground.worker("--max-async-tasks", "30")
    held = await ground.kiq_many(HELD, hold, str(ground.folder))
    await ground.until_begun(held)
    await ground.naps(size - HELD, NAP_S)
    mongodb = ground.services.mongodb
    await asyncio.to_thread(mongodb.kill)
    ground.say(f"MongoDB is killed, {AWAY_S:g} s for a lease of {LEASE_S:g} s")
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(mongodb.start)
    await ground.until_ended(size - HELD)
    (ground.folder / "go").touch()
    await ground.drain()
    begun = read_trace(ground.folder).begun
    again = [job_id for job_id in held if begun[job_id] != 1]
    ground.check(not again, f"{len(again)} healthy running jobs were taken back")
    return await ground.report(away_s=AWAY_S, running_all_the_while=HELD)


SCENARIO = Scenario(
    name="mongodb-outage",
    fault="MongoDB killed, away for longer than the lease",
    holds="no loss, no job stuck, healthy running jobs are not taken back",
    small=200,
    full=3_000,
    run=run,
)
