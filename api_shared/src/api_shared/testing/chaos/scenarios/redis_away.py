"""Redis is killed and comes back empty, then is flushed, with watchers listening."""

from __future__ import annotations

import asyncio
from random import Random

from redis.asyncio import Redis

from api_shared.errors import ApiWorkersError
from api_shared.job import Status
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

WATCHERS = 50
NAP_S = 0.3
PER_SECOND = 100.0
"""Redis is away while a third of the load is kiqed: 20 s for 2,000."""
SEEN_S = 60.0


async def run(size: int, rng: Random, ground: Environment) -> Report:
    redis = ground.services.redis
    for _ in range(2):
        await ground.worker("--max-async-tasks", "40")
    kiqs = asyncio.create_task(ground.naps(size, NAP_S, per_second=PER_SECOND))
    watching: dict[str, asyncio.Task[list[Status]]] = {}
    await ground.until_kiqed(size // 4)
    _watch_some(ground, rng, watching, WATCHERS // 2)
    await asyncio.to_thread(redis.kill)
    ground.say("Redis is killed")
    _watch_some(ground, rng, watching, WATCHERS)
    await ground.until_kiqed(size * 3 // 4)
    redis.wipe()
    await asyncio.to_thread(redis.start)
    await ground.until_kiqed(size * 7 // 8)
    ground.say("Redis is back, empty, and flushed a little later")
    async with Redis.from_url(redis.url) as client:
        await client.flushall()
    ids = await kiqs
    await ground.drain()
    done, hanging = await asyncio.wait(watching.values(), timeout=SEEN_S)
    for watcher in hanging:
        watcher.cancel()
    told = [watcher.result() for watcher in done]
    blind = len(hanging) + sum(1 for seen in told if not seen or not seen[-1].is_terminal)
    ground.check(not blind, f"{blind} watchers did not see the end of their job")
    twice = sum(1 for seen in told if len(seen) != len(set(seen)))
    ground.check(not twice, f"{twice} watchers saw a status twice")
    ground.check(len(ids) == size, "a kiq was refused because Redis was away")
    return await ground.report(watchers=len(watching))


def _watch_some(
    ground: Environment, rng: Random, watching: dict[str, asyncio.Task[list[Status]]], up_to: int
) -> None:
    candidates = sorted(ground.accepted - watching.keys(), reverse=True)[: 2 * WATCHERS]
    for job_id in rng.sample(candidates, up_to - len(watching)):
        watching[job_id] = asyncio.create_task(_statuses(ground, job_id))


async def _statuses(ground: Environment, job_id: str) -> list[Status]:
    try:
        events = ground.broker.handle(job_id).watch()
        return [event.status async for event in events if event.kind == "status"]
    except ApiWorkersError as error:
        ground.findings.append(f"a watcher got an error: {error}")
        return []


SCENARIO = Scenario(
    name="redis-away",
    fault="Redis killed for a while, back empty, FLUSHALL",
    holds="no job fails; each watcher sees the terminal event",
    small=400,
    full=2_000,
    run=run,
)
