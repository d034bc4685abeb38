"""RabbitMQ is killed and started again, and at last loses its disk."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

WORKERS = 2
JOBS_A_RESTART = 500
NAP_S = 0.2


async def run(size: int, rng: Random, ground: Environment) -> Report:
    """Before each kill a part of the jobs is kiqed, and a part while RabbitMQ is away."""
    rounds = max(2, size // JOBS_A_RESTART)
    rabbitmq = ground.services.rabbitmq
    for _ in range(WORKERS):
        await ground.worker("--max-async-tasks", "10")
    for number in range(1, rounds + 1):
        jobs = size // rounds
        before = rng.randrange(jobs // 3, jobs * 2 // 3)
        await ground.naps(before, NAP_S)
        await asyncio.to_thread(rabbitmq.kill)
        await ground.naps(jobs - before, NAP_S)
        if number == rounds:
            rabbitmq.wipe()
        await asyncio.to_thread(rabbitmq.start)
        ground.management.make_vhost(ground.name)
        word = "lost its disk" if number == rounds else "restarted"
        ground.say(f"RabbitMQ {word}; {await ground.open_jobs():,} jobs open")
    await ground.drain()
    ground.check(not ground.refused, "a kiq was refused because RabbitMQ was away")
    return await ground.report(restarts=rounds - 1, wipes=1)


SCENARIO = Scenario(
    name="rabbitmq-restarts",
    fault="RabbitMQ killed and restarted, again and again; its data folder wiped",
    holds="accepted jobs survive, even the wipe",
    small=300,
    full=3_000,
    run=run,
)
