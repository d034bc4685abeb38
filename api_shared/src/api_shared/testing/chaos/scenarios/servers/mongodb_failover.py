"""A replica set of three whose primary steps down, and is killed."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.servers import ReplicaSet, ServiceUnavailable
from api_shared.testing.waiting import until

WORKERS = 2
NAP_S = 0.5
PER_SECOND = 40.0
JOBS_A_ROUND = 1_000
ALONE = 10
"""Jobs that are kiqed while only the primary runs, just before it dies."""
ALONE_S = 1.0
ELECTION_S = 180.0


async def run(size: int, rng: Random, env: Environment) -> Report:
    """In each round a step-down and a kill, with kiqs and jobs under way."""
    mongodb = env.services.mongodb
    if not isinstance(mongodb, ReplicaSet):
        raise TypeError("this scenario needs a replica set: mongodb_nodes=3")
    rounds = max(1, size // JOBS_A_ROUND)
    for _ in range(WORKERS):
        await env.worker("--max-async-tasks", "20")
    kiqs = asyncio.create_task(env.naps(size, NAP_S, per_second=PER_SECOND))
    for number in range(rounds):
        await env.until_kiqed(round(size * (number + 0.2) / rounds))
        await asyncio.to_thread(mongodb.step_down)
        env.say("the primary steps down")
        await env.until_kiqed(round(size * (number + 0.5) / rounds))
        await _kill_primary(mongodb, env)
    await kiqs
    await env.drain()
    return await env.report(
        step_downs=rounds, kills=rounds, slowest_kiq_s=round(env.slowest_kiq_s, 1)
    )


async def _kill_primary(mongodb: ReplicaSet, env: Environment) -> None:
    """
    Kiq jobs while only the primary is left, then kill it. The others come back without it, so that
    what it alone had is rolled back: no kiq may have returned for that.
    """
    primary = await asyncio.to_thread(mongodb.primary)
    others = [node for node in mongodb.nodes if node is not primary]
    for node in others:
        await asyncio.to_thread(node.kill)
    alone = asyncio.create_task(env.naps(ALONE, NAP_S))
    await asyncio.wait([alone], timeout=ALONE_S)
    await asyncio.to_thread(primary.kill)
    env.say("all are killed, the primary last")
    for node in others:
        await asyncio.to_thread(node.start)
    await until(partial(_has_primary, mongodb), ELECTION_S, "the others have elected a primary")
    await asyncio.to_thread(primary.start)
    await alone


async def _has_primary(mongodb: ReplicaSet) -> bool:
    try:
        await asyncio.to_thread(mongodb.ask)
    except ServiceUnavailable:
        return False
    return True


SCENARIO = Scenario(
    name="mongodb-failover",
    fault="MongoDB, three nodes: step-down and kill of the primary",
    holds="no loss, no job stuck",
    small=300,
    full=3_000,
    run=run,
    mongodb_nodes=3,
)
