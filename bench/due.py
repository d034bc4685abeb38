"""
`python bench/due.py`: the delay of scheduled jobs after their time, on an idle worker.

Private servers, one worker process with the default settings, and 10,000 more jobs that
wait for tomorrow. Printed is how long after its time each of 200 jobs was claimed, by the clock of
the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import quantiles

from noop_ours import broker

from api_shared.job import Job, Status
from api_shared.ledger.protocol import JobFilter
from api_shared.testing.servers import running_servers

HERE = Path(__file__).parent
OWNER = "due"


async def measure(jobs: int, waiting: int, within_s: float) -> list[float]:
    """Seconds between each job's time and its claim."""
    task = broker.find_task("noop")
    assert task is not None
    later = task.kicker().with_labels(delay=86_400)
    for _ in range(0, waiting, 200):
        await asyncio.gather(*(later.kiq() for _ in range(200)))
    worker = subprocess.Popen(
        [sys.executable, "-m", "taskiq", "worker", "noop_ours:broker", "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(HERE), "LOG_LEVEL": "WARNING"},
        stderr=subprocess.DEVNULL,
    )
    try:
        while not await broker.runtime.ledger.workers():
            await asyncio.sleep(0.1)
        rng = Random(1)
        delays_s = {
            (await task.kicker().with_labels(delay=delay_s, owner=OWNER).kiq()).task_id: delay_s
            for delay_s in (round(rng.uniform(1, within_s), 3) for _ in range(jobs))
        }
        while len(ended := await _completed()) < jobs:
            await asyncio.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait()
    return [_late_s(job, delays_s[job.id]) for job in ended]


async def _completed() -> list[Job]:
    completed = JobFilter(owner=OWNER, status=Status.COMPLETED)
    return await broker.runtime.ledger.find(completed, limit=10_000)


def _late_s(job: Job, delay_s: float) -> float:
    started = job.started_at
    assert started is not None
    return (started - job.accepted_at - timedelta(seconds=delay_s)).total_seconds()


async def main(jobs: int, waiting: int, within_s: float) -> None:
    await broker.startup()
    await broker.runtime.ledger.prepare()
    try:
        late_s = sorted(await measure(jobs, waiting, within_s))
    finally:
        await broker.shutdown()
    p50, p99 = (quantiles(late_s, n=100, method="inclusive")[at] for at in (49, 98))
    print(
        f"{jobs} jobs due within {within_s:g} s, {waiting:,} waiting: started "
        f"{p50:.3f} s (p50), {p99:.3f} s (p99), {late_s[-1]:.3f} s (most) after their time"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--within-s", type=float, default=30)
    options = parser.parse_args()
    with running_servers(env={}) as services:
        os.environ.update(services.env)
        asyncio.run(main(options.jobs, options.waiting, options.within_s))
