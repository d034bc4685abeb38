"""Tasks that fail, for the scenarios on dead letters and cancels."""

from __future__ import annotations

import asyncio
from pathlib import Path

from taskiq import TaskiqDepends

from api_shared.errors import Discard
from api_shared.testing.chaos.trace import traced
from api_shared.testing.chaos.workers.load import broker
from api_shared.worker.context import JobContext

OPEN = "open"


@broker.task(task_name="chaos.fail_until_open")
async def fail_until_open(folder: str, job: JobContext = TaskiqDepends()) -> int:
    """Fails for good until the scenario has made the file `open`."""
    with traced(folder, job.id):
        if not (Path(folder) / OPEN).exists():
            raise Discard("not open yet")
    return job.claim_no


@broker.task(task_name="chaos.stumble", max_retries=20, backoff_s=0.5, backoff_cap_s=1)
async def stumble(folder: str, job: JobContext = TaskiqDepends()) -> None:
    """Fails again and again, and waits for its next attempt in between."""
    with traced(folder, job.id):
        await asyncio.sleep(0.05)
        raise RuntimeError("stumbled")
