"""The known load: tasks that do nothing but leave a trace, and their broker."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from taskiq import TaskiqDepends

from api_shared.client.job_broker import JobBroker
from api_shared.testing.chaos.trace import traced
from api_shared.worker.context import JobContext

broker = JobBroker("general")


@broker.task(task_name="chaos.nap")
async def nap(folder: str, seconds: float, job: JobContext = TaskiqDepends()) -> int:
    """Sleeps; returns the number of its claim."""
    with traced(folder, job.id):
        await asyncio.sleep(seconds)
    return job.claim_no


@broker.task(task_name="chaos.hold", timeout=600, soft_timeout=600)
async def hold(folder: str, job: JobContext = TaskiqDepends()) -> int:
    """Runs until the file `go` is there; returns the number of its claim."""
    with traced(folder, job.id):
        while not (Path(folder) / "go").exists():  # noqa: ASYNC110 - the scenario is another process
            await asyncio.sleep(0.05)
    return job.claim_no


@broker.task(task_name="chaos.crunch")
def crunch(folder: str, name: str, seconds: float) -> int:
    """A CPU job: busy for a time, in a process of its own; its trace is under `name`."""
    with traced(folder, name):
        until = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < until:
            rounds += 1
    return rounds
