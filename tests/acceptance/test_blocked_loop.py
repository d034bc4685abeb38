"""Async code that blocks its worker's event loop: named, stopped, and nobody else pays for it."""

from __future__ import annotations

from pathlib import Path

from api_shared.job import Reason, Status
from fixtures.workers import LONG_S, Platform, until
from jobs import blockers, tasks
from jobs.broker import broker


async def test_a_job_that_blocks_for_longer_than_a_lease_keeps_its_claim_and_its_neighbours_too(
    platform: Platform, tmp_path: Path
) -> None:
    """Two processes, so that somebody would take back what lapses."""
    await platform.start(broker)
    first = await platform.worker("jobs.main:broker", LEASE_S="5", HEARTBEAT_S="0.5")
    held = await tasks.hold.kiq(str(tmp_path), "held")
    await until((tmp_path / "held.started").exists)
    second = await platform.worker("jobs.main:broker", LEASE_S="5", HEARTBEAT_S="0.5")
    blocked = await blockers.spin_deaf.kiq(str(tmp_path), "blocked")
    job = await platform.status_of(blocked, Status.FAILED)
    assert job.error is not None
    assert job.error.reason is Reason.TIME_LIMIT
    assert "blocked the event loop" in job.error.message
    assert "in spin_deaf" in job.error.traceback
    assert (job.attempt, job.lost) == (2, 0)
    (tmp_path / "held.go").touch()
    await platform.status_of(held, Status.COMPLETED)
    assert (await platform.job(held)).lost == 0
    workers = (first, second)
    await until(lambda: sum(each.log.count("worker.ends_itself") for each in workers) == 2)


async def test_a_job_that_blocks_is_stopped_at_its_soft_limit_or_by_cancel_and_costs_no_process(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker")
    held = await tasks.hold.kiq(str(tmp_path), "held")
    await until((tmp_path / "held.started").exists)
    limited = await blockers.spin.kiq(str(tmp_path), "limited")
    job = await platform.status_of(limited, Status.FAILED)
    assert job.error is not None
    assert job.error.reason is Reason.TIME_LIMIT
    cancelled = await tasks.nap.kiq(str(tmp_path), "nap", 60)
    await cancelled.cancel()
    await platform.status_of(cancelled, Status.CANCELLED)
    (tmp_path / "held.go").touch()
    assert await held.result(LONG_S) == 1
    assert worker.log.count("worker.started") == 1


async def test_code_that_keeps_the_interpreter_for_itself_is_lost_and_its_neighbour_completes(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker", TASK_MAX_LOST="1")
    poison = await blockers.hold_interpreter.kiq(str(tmp_path), "poison")
    await until((tmp_path / "poison.started").exists)
    good = [await tasks.add.kiq(number, 1) for number in range(20)]
    job = await platform.status_of(poison, Status.FAILED)
    assert job.error is not None
    assert (job.error.reason, job.lost) == (Reason.LOST, 1)
    assert [await handle.result(LONG_S) for handle in good] == list(range(1, 21))
    assert "in hold_interpreter" in worker.log, "the log says where it was"
