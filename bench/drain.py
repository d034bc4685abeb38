"""
`make bench`: throughput of one worker process on jobs that do nothing, beside plain taskiq.

Both run on the same private servers, in turns, with 100 slots. Ours also keeps a durable ledger
(MongoDB, majority and journal), a history and live events; the peer stores a result in Redis.
Printed are the rates, the worker's CPU time for each job, and the ratios of each round: machines
are noisy, ratios of neighbouring runs less so.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from redis.asyncio import Redis

from api_shared.testing.servers import Services, running_servers

HERE = Path(__file__).parent
TICK_S = 0.02


@dataclass(frozen=True)
class Run:
    name: str
    kiq_s: float
    drain_s: float
    cpu_s: float
    jobs: int

    def __str__(self) -> str:
        return (
            f"{self.name:7} kiq {self.jobs / self.kiq_s:7,.0f}/s   "
            f"drain {self.jobs / self.drain_s:7,.0f}/s   "
            f"worker CPU {1000 * self.cpu_s / self.jobs:.2f} ms a job"
        )


async def run_one(name: str, module: str, jobs: int, services: Services) -> Run:
    """Kiq `jobs` jobs, start a worker, time from the first job done to the last."""
    sys.modules.pop(module, None)
    broker = importlib.import_module(module).broker
    task = broker.find_task("noop")
    assert task is not None
    await broker.startup()
    async with Redis.from_url(services.redis.url) as redis:
        await redis.flushall()
        started = time.perf_counter()
        await gather_limited([task.kiq] * jobs, 100)
        kiq_s = time.perf_counter() - started

        async def done() -> int:
            """Results in Redis: each job leaves one key, on either side."""
            return int(await redis.dbsize())

        worker = subprocess.Popen(
            ["taskiq", "worker", f"{module}:broker", "--workers", "1"],
            env=os.environ | {"PYTHONPATH": str(HERE), "LOG_LEVEL": "WARNING"},
            stderr=subprocess.DEVNULL,
        )
        try:
            while (first := await done()) == 0:
                await asyncio.sleep(TICK_S)
            started, cpu = time.perf_counter(), cpu_s(worker.pid)
            while (last := await done()) < jobs:
                await asyncio.sleep(TICK_S)
            drain_s = time.perf_counter() - started
            spent = cpu_s(worker.pid) - cpu
        finally:
            worker.terminate()
            worker.wait()
    await broker.shutdown()
    return Run(name, kiq_s, drain_s, spent, last - first)


async def gather_limited(calls: list[Callable[[], Awaitable[Any]]], at_once: int) -> None:
    pending = iter(calls)

    async def caller() -> None:
        for call in pending:
            await call()

    await asyncio.gather(*(caller() for _ in range(at_once)))


def cpu_s(main_pid: int) -> float:
    """User and system time of the worker's child process, seconds (/proc/PID/stat)."""
    children = Path(f"/proc/{main_pid}/task/{main_pid}/children").read_text().split()
    ticks = 0
    for child in children:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def main(jobs: int, rounds: int) -> None:
    ratios: list[tuple[float, float, float]] = []
    with running_servers(on_step=lambda step: print(f"servers: {step}", file=sys.stderr)) as given:
        os.environ.update(given.env)
        sys.path.insert(0, str(HERE))
        for number in range(rounds):
            os.environ["DATABASE_NAME"] = os.environ["REDIS_PREFIX"] = f"bench_{number}"
            ours = await run_one("ours", "noop_ours", jobs, given)
            peer = await run_one("taskiq", "noop_taskiq", jobs, given)
            print(ours, peer, sep="\n", flush=True)
            rates = (ours.jobs / ours.drain_s) / (peer.jobs / peer.drain_s)
            cpu = (ours.cpu_s / ours.jobs) / (peer.cpu_s / peer.jobs)
            ratios.append((rates, cpu, peer.kiq_s / ours.kiq_s))
    for name, values in zip(
        ("drain rate", "CPU a job", "kiq rate"), zip(*ratios, strict=True), strict=True
    ):
        print(
            f"ours / taskiq, {name}: {median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(main(options.jobs, options.rounds))
