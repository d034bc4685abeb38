"""Workers that end in another way than by a drain."""

from __future__ import annotations

from pathlib import Path

from api_shared.job import Status
from fixtures.workers import Platform, until
from jobs import tasks
from jobs.broker import broker

HOURS = "7200"
"""Of a drain and a lease that do not run out here."""


async def test_what_taskiq_waits_for_no_longer_is_handed_on(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker(
        "jobs.main:broker", "--wait-tasks-timeout", "0.1", DRAIN_S=HOURS, LEASE_S=HOURS
    )
    held = await tasks.hold.kiq(str(tmp_path), "held")
    blocked = await tasks.block.kiq(str(tmp_path), "blocked")
    await until(lambda: len(list(tmp_path.glob("*.started"))) == 2)
    worker.terminate()
    assert await worker.wait() == 0
    for handle in (held, blocked):
        job = await platform.job(handle)
        assert (job.status, job.attempt, job.lost) == (Status.RETRYING, 0, 0)
        assert job.history[-1].note == "worker stopped"
