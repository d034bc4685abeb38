"""Dispatchers and workers whose clocks are wrong, and jobs that are for later."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

from api_shared.job import Status
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.load import nap
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

DISPATCHERS = 10
MOST_S = 30
"""How wrong a clock is at most, either way."""
LONG_LEASE = {"LEASE_S": str(MOST_S), "HEARTBEAT_S": "5"}
"""A clock that is ahead must not take a job back, and ten processes on a busy machine may not."""
LATEST_S = 20.0
AT_ONCE = 50


async def run(size: int, rng: Random, ground: Environment) -> Report:
    few = size < DISPATCHERS * 10
    await ground.worker(
        target="api_shared.testing.chaos.wrong_clock:broker",
        processes=3 if few else DISPATCHERS,
        env={"CHAOS_CLOCK_MOST_S": str(MOST_S), **LONG_LEASE},
    )
    delays_s: dict[str, float] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(delay_s: float) -> None:
        async with gate:
            labels = {"delay": delay_s} if delay_s else {}
            job_id = await ground.kiq(nap, str(ground.folder), 0.0, **labels)
            if job_id is not None:
                delays_s[job_id] = delay_s

    await asyncio.gather(*(one(round(rng.uniform(0.1, LATEST_S), 3)) for _ in range(size)))
    await ground.drain()
    for job in await every_job(ground.ledger):
        due_at = job.accepted_at + timedelta(seconds=delays_s[job.id])
        taken = [entry for entry in job.history if entry.status is Status.QUEUED]
        ground.check(len(taken) == 1, f"job {job.id} was taken {len(taken)} times")
        ground.check(
            all(entry.at >= due_at for entry in taken), f"job {job.id} was taken before its time"
        )
    report = await ground.report()
    return report.checked(not report.audit.ran_again, "jobs ran again")


SCENARIO = Scenario(
    name="clock-wrong",
    fault=f"ten dispatchers whose clocks are up to {MOST_S} s wrong",
    holds="each due job is taken once, and not before its time",
    small=60,
    full=1_000,
    run=run,
)
