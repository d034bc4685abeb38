"""A RabbitMQ that neither answers nor closes connections, while services kiq."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

PER_SECOND = 33.0
"""The outage lasts as long as the kiqs take: 1,000 of them, 30 s."""


async def run(size: int, rng: Random, env: Environment) -> Report:
    """A service and a worker are behind the black hole, which later refuses connections."""
    proxy = await env.proxy(env.services.rabbitmq)
    url = proxy.url(env.variables["RABBITMQ_URL"])
    await env.reopen(RABBITMQ_URL=url)
    await env.worker(variables={"RABBITMQ_URL": url})
    await env.naps(1, 0)
    await env.until_ended(1)
    proxy.black_hole()
    kiqs = asyncio.create_task(env.naps(size, 0, per_second=PER_SECOND))
    await env.until_kiqed(size // 2)
    proxy.refuses = True
    proxy.cut()
    await kiqs
    env.say(f"healing; {await env.open_jobs():,} jobs open")
    proxy.heal()
    await env.drain()
    env.check(not env.refused, "a kiq was refused because RabbitMQ was away")
    return await env.report(slowest_kiq_s=round(env.slowest_kiq_s, 1))


SCENARIO = Scenario(
    name="rabbitmq-unreachable",
    fault="RabbitMQ unreachable (black hole, then refused) while services kiq",
    holds="every kiq returns, all run later",
    small=200,
    full=1_000,
    run=run,
)
