"""Kills and restarts of RabbitMQ, and finally the loss of its disk."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

WORKERS = 2
JOBS_A_RESTART = 500
NAP_S = 0.2


async def run(size: int, rng: Random, env: Environment) -> Report:
    """A part of the jobs is kiqed before each kill, and a part while RabbitMQ is away."""
    rounds = max(2, size // JOBS_A_RESTART)
    rabbitmq = env.services.rabbitmq
    for _ in range(WORKERS):
        await env.worker("--max-async-tasks", "10")
    for number in range(1, rounds + 1):
        jobs = size // rounds
        before = rng.randrange(jobs // 3, jobs * 2 // 3)
        await env.naps(before, NAP_S)
        await asyncio.to_thread(rabbitmq.kill)
        await env.naps(jobs - before, NAP_S)
        if number == rounds:
            rabbitmq.wipe()
        await asyncio.to_thread(rabbitmq.start)
        env.management.make_vhost(env.name)
        word = "lost its disk" if number == rounds else "restarted"
        env.say(f"RabbitMQ {word}; {await env.open_jobs():,} jobs open")
    await env.drain()
    env.check(not env.refused, "a kiq was refused because RabbitMQ was away")
    return await env.report(restarts=rounds - 1, wipes=1)


SCENARIO = Scenario(
    name="rabbitmq-restarts",
    fault="RabbitMQ killed and restarted, again and again; its data folder wiped",
    holds="accepted jobs survive, even the wipe",
    small=300,
    full=3_000,
    run=run,
)
