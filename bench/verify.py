"""
`python bench/verify.py`: the duration of `kiq verify` on a large ledger.

A private MongoDB, the record of one job that a worker completed, copied 100,000 times. Printed are
the seconds of the count of all of them, and of the last hour's where most are older; beside them
those of MongoDB's own count of the same collection, which reads nothing but the same records.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from bson import ObjectId
from noop_ours import broker
from pymongo import MongoClient
from pymongo.collection import Collection

from api_shared.ledger.audit import Scope
from api_shared.ledger.verify import verify
from api_shared.testing.servers import running_servers

HERE = Path(__file__).parent
DATABASE = "bench_verify"
HOUR = timedelta(hours=1)
ROUNDS = 5


async def complete_one() -> None:
    task = broker.find_task("noop")
    assert task is not None
    worker = subprocess.Popen(
        [sys.executable, "-m", "taskiq", "worker", "noop_ours:broker", "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(HERE), "LOG_LEVEL": "WARNING"},
        stderr=subprocess.DEVNULL,
    )
    try:
        await (await task.kiq()).wait_result(timeout=60)
    finally:
        worker.terminate()
        worker.wait()


def copy(jobs: Collection[dict[str, Any]], count: int, recent: int) -> None:
    """`recent` of them accepted now, the others before the hour."""
    (one,) = jobs.find()
    now = datetime.now(UTC)
    for start in range(1, count, 1000):
        jobs.insert_many(
            {
                **one,
                "_id": ObjectId(),
                "accepted_at": now if number < recent else now - 2 * HOUR,
            }
            for number in range(start, min(start + 1000, count))
        )


async def seconds(act: Callable[[], Awaitable[int]], expected: int) -> float:
    took = []
    for _ in range(ROUNDS):
        began = perf_counter()
        found = await act()
        took.append(perf_counter() - began)
        assert found == expected, f"{found} counted, expected {expected}"
    return median(took)


async def main(count: int, url: str) -> None:
    await broker.startup()
    ledger = broker.runtime.ledger
    await ledger.prepare()
    try:
        await complete_one()
        with MongoClient[dict[str, Any]](url) as client:
            jobs = client[DATABASE]["jobs"]
            recent = count // 20
            copy(jobs, count, recent)

            async def plain() -> int:
                every = {"$group": {"_id": "$status", "jobs": {"$sum": 1}}}
                groups = await asyncio.to_thread(lambda: list(jobs.aggregate([every])))
                return sum(group["jobs"] for group in groups)

            async def whole() -> int:
                return (await verify(ledger, Scope())).completed

            async def last_hour() -> int:
                return (await verify(ledger, Scope(since=datetime.now(UTC) - HOUR))).completed

            plain_s = await seconds(plain, count)
            whole_s = await seconds(whole, count)
            hour_s = await seconds(last_hour, recent)
    finally:
        await broker.shutdown()
    print(
        f"{count:,} jobs: verify {whole_s:.2f} s, {whole_s / plain_s:.1f} times MongoDB's own "
        f"count by status ({plain_s:.2f} s); the last hour's {recent:,}: {hour_s:.2f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    with running_servers(env={}) as services:
        os.environ.update({**services.env, "DATABASE_NAME": DATABASE})
        asyncio.run(main(options.jobs, services.mongodb.url))
