"""RabbitMQ answers nothing for a while, and closes nothing, while services kiq."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

PER_SECOND = 33.0
"""The outage lasts as long as the kiqs take: 1,000 of them, 30 s."""


async def run(size: int, rng: Random, ground: Environment) -> Report:
    """Both a service and a worker are behind the black hole; half way it turns into a refusal."""
    proxy = await ground.proxy(ground.services.rabbitmq)
    url = proxy.url(ground.env["RABBITMQ_URL"])
    await ground.reopen(RABBITMQ_URL=url)
    await ground.worker(env={"RABBITMQ_URL": url})
    await ground.naps(1, 0)
    await ground.until_ended(1)
    proxy.black_hole()
    kiqs = asyncio.create_task(ground.naps(size, 0, per_second=PER_SECOND))
    await ground.until_kiqed(size // 2)
    proxy.refuses = True
    proxy.cut()
    await kiqs
    ground.say(f"healing; {await ground.open_jobs():,} jobs open")
    proxy.heal()
    await ground.drain()
    ground.check(not ground.refused, "a kiq was refused because RabbitMQ was away")
    return await ground.report(slowest_kiq_s=round(ground.slowest_kiq_s, 1))


SCENARIO = Scenario(
    name="rabbitmq-unreachable",
    fault="RabbitMQ unreachable (black hole, then refused) while services kiq",
    holds="every kiq returns, all run later",
    small=200,
    full=1_000,
    run=run,
)
