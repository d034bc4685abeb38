"""A Redis that is killed, comes back empty and is flushed, while watchers listen."""

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


async def run(size: int, rng: Random, env: Environment) -> Report:
    redis = env.services.redis
    for _ in range(2):
        await env.worker("--max-async-tasks", "40")
    kiqs = asyncio.create_task(env.naps(size, NAP_S, per_second=PER_SECOND))
    watching: dict[str, asyncio.Task[list[Status]]] = {}
    await env.until_kiqed(size // 4)
    _watch_some(env, rng, watching, WATCHERS // 2)
    await asyncio.to_thread(redis.kill)
    env.say("Redis is killed")
    _watch_some(env, rng, watching, WATCHERS)
    await env.until_kiqed(size * 3 // 4)
    redis.wipe()
    await asyncio.to_thread(redis.start)
    await env.until_kiqed(size * 7 // 8)
    env.say("Redis is back, empty, and flushed a little later")
    async with Redis.from_url(redis.url) as client:
        await client.flushall()
    ids = await kiqs
    await env.drain()
    done, hanging = await asyncio.wait(watching.values(), timeout=SEEN_S)
    for watcher in hanging:
        watcher.cancel()
    statuses = [watcher.result() for watcher in done]
    blind = len(hanging) + sum(1 for seen in statuses if not seen or not seen[-1].is_terminal)
    env.check(not blind, f"{blind} watchers did not see the end of their job")
    twice = sum(1 for seen in statuses if len(seen) != len(set(seen)))
    env.check(not twice, f"{twice} watchers saw a status twice")
    env.check(len(ids) == size, "a kiq was refused because Redis was away")
    return await env.report(watchers=len(watching))


def _watch_some(
    env: Environment, rng: Random, watching: dict[str, asyncio.Task[list[Status]]], up_to: int
) -> None:
    candidates = sorted(env.accepted - watching.keys(), reverse=True)[: 2 * WATCHERS]
    for job_id in rng.sample(candidates, up_to - len(watching)):
        watching[job_id] = asyncio.create_task(_statuses(env, job_id))


async def _statuses(env: Environment, job_id: str) -> list[Status]:
    try:
        events = env.broker.handle(job_id).watch()
        return [event.status async for event in events if event.kind == "status"]
    except ApiWorkersError as error:
        env.findings.append(f"a watcher got an error: {error}")
        return []


SCENARIO = Scenario(
    name="redis-away",
    fault="Redis killed for a while, back empty, FLUSHALL",
    holds="no job fails; each watcher sees the terminal event",
    small=400,
    full=2_000,
    run=run,
)
