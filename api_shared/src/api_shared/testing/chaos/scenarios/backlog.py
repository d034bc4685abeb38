"""A queue that nobody empties for two hours, and that somebody purges in the midst of them."""

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
from api_shared.testing.chaos.waiting import until
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import depth

HOURS = timedelta(hours=2)
STEP = timedelta(minutes=10)
DISPATCHERS = 2
LOOKS_S = 300.0


async def run(size: int, rng: Random, ground: Environment) -> Report:
    # They dispatch, and take nothing from the queue that backs up.
    await ground.worker(processes=DISPATCHERS, env={"WORKER_QUEUES": "low"})
    ids = await ground.naps(size, 0.0)
    steps = HOURS // STEP
    purge_at = rng.randrange(steps // 3, 2 * steps // 3)
    for step in range(steps):
        if step == purge_at:
            purged = await _depth(ground)
            queue = quote(ground.broker.runtime.topology.default.name, safe="")
            ground.management("DELETE", f"queues/{ground.name}/{queue}/contents")
            ground.say(f"purged {purged} messages, {step * STEP} into the backlog")
        await asyncio.to_thread(_pass, ground, STEP)
        await until(lambda: _all_looked_after(ground), LOOKS_S, "nothing queued is overdue")
        messages = await _depth(ground)
        told = f"{messages} messages for {size} jobs, {(step + 1) * STEP} into the backlog"
        ground.check(messages == size if step < purge_at else messages <= size, told)

    async def is_whole() -> bool:
        return await _depth(ground) >= size

    await until(is_whole, LOOKS_S, "what was purged has been published again")
    ground.check(await ground.open_jobs() == len(ids), "a job of the backlog has ended")
    await ground.worker()
    await ground.drain()
    report = await ground.report(purged_after_min=purge_at * STEP.total_seconds() / 60)
    return report.checked(not report.audit.ran_again, "jobs ran again")


def _pass(ground: Environment, time: timedelta) -> None:
    """Time passes: every job has been waiting for so much longer."""
    earlier = {
        name: {"$subtract": [f"${name}", time.total_seconds() * 1000]}
        for name in ("due_at", "queued_at", "accepted_at")
    }
    with MongoClient[dict[str, Any]](ground.services.mongodb.url) as client:
        queued = {"status": Status.QUEUED.value}
        client[ground.name]["jobs"].update_many(queued, [{"$set": earlier}])


async def _all_looked_after(ground: Environment) -> bool:
    due = await ground.ledger.due(ground.broker.name, limit=1)
    return not due


async def _depth(ground: Environment) -> int:
    """Asked of the queue itself: the management API's figures are seconds old."""
    publisher = ground.broker.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)  # noqa: S101 - the broker was started
    async with publisher.connection.side_channel() as channel:
        return await depth(channel, ground.broker.runtime.topology.default.name) or 0


SCENARIO = Scenario(
    name="backlog-purged",
    fault="a backlog of two hours by the ledger's clock, its queue purged in the midst",
    holds="nothing is published again needlessly; what was purged is",
    small=40,
    full=5_000,
    run=run,
)
