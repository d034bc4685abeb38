"""A queue that no worker empties for two hours, and that is purged meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient

from api_shared.job import Status
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.waiting import until
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import depth

HOURS = timedelta(hours=2)
STEP = timedelta(minutes=10)
DISPATCHERS = 2
LOOKS_S = 300.0


async def run(size: int, rng: Random, env: Environment) -> Report:
    # They dispatch, and take nothing from the queue whose backlog grows.
    await env.worker(processes=DISPATCHERS, variables={"WORKER_QUEUES": "low"})
    ids = await env.naps(size, 0.0)
    steps = HOURS // STEP
    purge_at = rng.randrange(steps // 3, 2 * steps // 3)
    for step in range(steps):
        if step == purge_at:
            purged = await _depth(env)
            queue = quote(env.broker.runtime.topology.default.name, safe="")
            env.management("DELETE", f"queues/{env.name}/{queue}/contents")
            env.say(f"purged {purged} messages, {step * STEP} into the backlog")
        await asyncio.to_thread(_pass, env, STEP)
        await until(lambda: _all_looked_after(env), LOOKS_S, "nothing queued is overdue")
        messages = await _depth(env)
        found = f"{messages} messages for {size} jobs, {(step + 1) * STEP} into the backlog"
        env.check(messages == size if step < purge_at else messages <= size, found)

    async def is_whole() -> bool:
        return await _depth(env) >= size

    await until(is_whole, LOOKS_S, "what was purged has been published again")
    env.check(await env.open_jobs() == len(ids), "a job of the backlog has ended")
    await env.worker()
    await env.drain()
    report = await env.report(purged_after_min=purge_at * STEP.total_seconds() / 60)
    return report.checked(not report.audit.ran_again, "jobs ran again")


def _pass(env: Environment, time: timedelta) -> None:
    """Let time pass: every job has waited longer by `time`."""
    earlier = {
        name: {"$subtract": [f"${name}", time.total_seconds() * 1000]}
        for name in ("due_at", "queued_at", "accepted_at")
    }
    with MongoClient[dict[str, Any]](env.services.mongodb.url) as client:
        queued = {"status": Status.QUEUED.value}
        client[env.name]["jobs"].update_many(queued, [{"$set": earlier}])


async def _all_looked_after(env: Environment) -> bool:
    due = await env.ledger.due(env.broker.name, limit=1)
    return not due


async def _depth(env: Environment) -> int:
    """The messages of the queue, from the queue itself: the management API's are seconds old."""
    publisher = env.broker.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)  # noqa: S101 - the broker was started
    async with publisher.connection.side_channel() as channel:
        return await depth(channel, env.broker.runtime.topology.default.name) or 0


SCENARIO = Scenario(
    name="backlog-purged",
    fault="a backlog of two hours by the ledger's clock, its queue purged in the middle",
    holds="nothing is published twice without need; what was purged is published again",
    small=40,
    full=5_000,
    run=run,
)
