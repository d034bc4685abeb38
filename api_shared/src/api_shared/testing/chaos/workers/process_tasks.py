"""Tasks of the scenarios that kill, freeze and restart processes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from taskiq import TaskiqDepends

from api_shared.testing.chaos.trace import traced
from api_shared.testing.chaos.workers.load import broker
from api_shared.worker.context import JobContext

POLL_S = 0.02
FOR_EVER_S = 600.0
GO = "go"


@broker.task(task_name="chaos.wait_for_go", soft_timeout=FOR_EVER_S, timeout=FOR_EVER_S)
async def wait_for_go(folder: str, job: JobContext = TaskiqDepends()) -> int:
    """Runs until the file `go` is there; returns the number of its claim."""
    with traced(folder, job.id):
        while not (Path(folder) / GO).exists():  # noqa: ASYNC110 - the scenario is another process
            await asyncio.sleep(POLL_S)
    return job.claim_no


@broker.task(
    task_name="chaos.victim",
    soft_timeout=FOR_EVER_S,
    timeout=FOR_EVER_S,
    max_retries=1,
    backoff_s=0,
)
def victim(folder: str, job: JobContext = TaskiqDepends()) -> int:
    """A CPU job: writes its process id in its first attempt and waits to be killed."""
    with traced(folder, job.id):
        if job.attempt == 1:
            (Path(folder) / f"{job.id}.victim").write_text(str(os.getpid()))
            time.sleep(FOR_EVER_S)
    return job.attempt
