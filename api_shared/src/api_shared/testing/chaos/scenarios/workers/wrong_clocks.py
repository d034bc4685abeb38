"""Dispatchers and workers with wrong clocks, and jobs that are due later."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

from api_shared.job import Status
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.workers.load import nap

DISPATCHERS = 10
MOST_S = 30
"""How wrong a clock is at most, either way."""
LONG_LEASE = {"LEASE_S": str(MOST_S), "HEARTBEAT_S": "5"}
"""Neither a clock that is ahead nor a busy machine may cost a worker its lease."""
LATEST_S = 20.0
AT_ONCE = 50


async def run(size: int, rng: Random, env: Environment) -> Report:
    few = size < DISPATCHERS * 10
    await env.worker(
        target="api_shared.testing.chaos.workers.wrong_clock:broker",
        processes=3 if few else DISPATCHERS,
        variables={"CHAOS_CLOCK_MOST_S": str(MOST_S), **LONG_LEASE},
    )
    delays_s: dict[str, float] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(delay_s: float) -> None:
        async with gate:
            labels = {"delay": delay_s} if delay_s else {}
            job_id = await env.kiq(nap, str(env.folder), 0.0, **labels)
            if job_id is not None:
                delays_s[job_id] = delay_s

    await asyncio.gather(*(one(round(rng.uniform(0.1, LATEST_S), 3)) for _ in range(size)))
    await env.drain()
    for job in await every_job(env.ledger):
        due_at = job.accepted_at + timedelta(seconds=delays_s[job.id])
        taken = [entry for entry in job.history if entry.status is Status.QUEUED]
        env.check(len(taken) == 1, f"job {job.id} was taken {len(taken)} times")
        env.check(
            all(entry.at >= due_at for entry in taken), f"job {job.id} was taken before its time"
        )
    report = await env.report()
    return report.checked(not report.audit.ran_again, "jobs ran again")


SCENARIO = Scenario(
    name="clock-wrong",
    fault=f"ten dispatchers whose clocks are up to {MOST_S} s wrong",
    holds="each due job is taken once, and not before its time",
    small=60,
    full=1_000,
    run=run,
)
