"""A replica set of three: the primary steps down, another is killed."""

from __future__ import annotations

import asyncio
import time
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.servers import ReplicaSet, ServiceUnavailable

WORKERS = 2
NAP_S = 0.5
PER_SECOND = 40.0
JOBS_A_ROUND = 1_000
ALONE = 10
"""Jobs that are kiqed while only the primary runs, just before it dies."""
ALONE_S = 1.0
ELECTION_S = 180.0


async def run(size: int, rng: Random, ground: Environment) -> Report:
    """Each round a step-down and a kill, with kiqs and jobs under way."""
    mongodb = ground.services.mongodb
    if not isinstance(mongodb, ReplicaSet):
        raise TypeError("this row wants a replica set: mongodb_nodes=3")
    rounds = max(1, size // JOBS_A_ROUND)
    for _ in range(WORKERS):
        await ground.worker("--max-async-tasks", "20")
    kiqs = asyncio.create_task(ground.naps(size, NAP_S, per_second=PER_SECOND))
    for number in range(rounds):
        await ground.until_kiqed(round(size * (number + 0.2) / rounds))
        await asyncio.to_thread(mongodb.step_down)
        ground.say("the primary steps down")
        await ground.until_kiqed(round(size * (number + 0.5) / rounds))
        await _kill_primary(mongodb, ground)
    await kiqs
    await ground.drain()
    return await ground.report(
        step_downs=rounds, kills=rounds, slowest_kiq_s=round(ground.slowest_kiq_s, 1)
    )


async def _kill_primary(mongodb: ReplicaSet, ground: Environment) -> None:
    """
    Jobs are kiqed while only the primary is left. The others come back without it, so that what it
    alone had is rolled back: no kiq may have returned for it.
    """
    primary = await asyncio.to_thread(mongodb.primary)
    others = [node for node in mongodb.nodes if node is not primary]
    for node in others:
        await asyncio.to_thread(node.kill)
    alone = asyncio.create_task(ground.naps(ALONE, NAP_S))
    await asyncio.wait([alone], timeout=ALONE_S)
    await asyncio.to_thread(primary.kill)
    ground.say("all are killed, the primary last")
    for node in others:
        await asyncio.to_thread(node.start)
    await asyncio.to_thread(_until_elected, mongodb)
    await asyncio.to_thread(primary.start)
    await alone


def _until_elected(mongodb: ReplicaSet) -> None:
    """Raises `ServiceUnavailable` when the others find no primary."""
    deadline = time.monotonic() + ELECTION_S
    while True:
        try:
            return mongodb.ask()
        except ServiceUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


SCENARIO = Scenario(
    name="mongodb-failover",
    fault="MongoDB, three nodes: step-down and kill of the primary",
    holds="no loss, no job stuck",
    small=300,
    full=3_000,
    run=run,
    mongodb_nodes=3,
)
