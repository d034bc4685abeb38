"""How a worker stops: in peace, in a fast_shutdown, told twice, and by refusing to start."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api_shared.client.follow.handle import JobHandle
from api_shared.job import Status
from api_shared.testing.servers.process_identity import ProcessIdentity
from fixtures.workers import Platform, until
from jobs import blockers, tasks
from jobs.broker import broker

HOURS = "7200"
"""Of a drain and a lease that do not run out here."""


@pytest.mark.parametrize("to", ["main", "group", "after_sigterm"])
async def test_sigquit_hands_on_at_once_what_runs_and_counts_no_attempt(
    platform: Platform, tmp_path: Path, to: str
) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker", processes=2, DRAIN_S=HOURS, LEASE_S=HOURS)
    held = [await tasks.hold.kiq(str(tmp_path), f"h{number}") for number in range(4)]
    blocked = await tasks.block.kiq(str(tmp_path), "deaf")
    await until(lambda: len(list(tmp_path.glob("*.started"))) == 5)
    deaf = await until(lambda: (tmp_path / "deaf.started").read_text().strip())
    if to == "after_sigterm":
        worker.terminate()
        await until(lambda: worker.log.count("worker.draining") == 2)
        assert worker.returncode is None
    if to == "group":
        os.killpg(worker.pid, signal.SIGQUIT)
    else:
        os.kill(worker.pid, signal.SIGQUIT)
    assert await worker.wait() == -signal.SIGQUIT
    handles: list[JobHandle[Any]] = [*held, blocked]
    for handle in handles:
        job = await platform.job(handle)
        assert job.status in (Status.RETRYING, Status.QUEUED)
        assert (job.attempt, job.lost) == (0, 0)
        notes = [entry.note for entry in job.history if entry.status is Status.RETRYING]
        # Of two processes, one may take what the other has released before it hears the signal.
        assert set(notes) == {"worker stopped"}
    assert ProcessIdentity.of(int(deaf)) is None, "the process of a CPU job went with its worker"
    assert await platform.ledger.workers(seen_within_s=float(HOURS)) == []


async def test_a_child_that_is_told_twice_to_stop_does_not_hurry(
    platform: Platform, tmp_path: Path
) -> None:
    """As systemd does with KillMode=control-group: main, and by it and systemd each child."""
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker", processes=2, DRAIN_S=HOURS, LEASE_S=HOURS)
    held = [await tasks.hold.kiq(str(tmp_path), f"h{number}") for number in range(4)]
    await until(lambda: len(list(tmp_path.glob("*.started"))) == 4)

    def have_heard(signals: int) -> bool:
        heard = worker.log.count("worker.stopping") + worker.log.count("worker.signal_again")
        return heard >= 2 * signals

    for number, again in enumerate((signal.SIGTERM, signal.SIGTERM, signal.SIGINT), 1):
        os.killpg(worker.pid, again)
        await until(partial(have_heard, number), what=f"both have heard {again!r}")
    for number in range(4):
        (tmp_path / f"h{number}.go").touch()
    assert await worker.wait() == 0
    jobs = [await platform.job(handle) for handle in held]
    assert [(job.status, job.claim_no) for job in jobs] == [(Status.COMPLETED, 1)] * 4


async def test_a_body_that_swallows_its_stop_does_not_keep_its_worker(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker", DRAIN_S="0.1")
    handle = await blockers.deaf.kiq(str(tmp_path), "deaf")
    await until((tmp_path / "deaf.started").exists)
    worker.terminate()
    assert await worker.wait() == 0
    job = await platform.job(handle)
    assert job.status in (Status.RETRYING, Status.QUEUED)
    assert (job.attempt, job.lost) == (0, 0)


async def test_a_job_does_not_run_beside_its_own_leftover(
    platform: Platform, tmp_path: Path
) -> None:
    """Its process, which cannot be rid of the first run, makes way for another."""
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker")
    handle = await blockers.deaf_twice.kiq(str(tmp_path), "again")
    job = await platform.status_of(handle, Status.FAILED)
    assert (job.attempt, job.lost) == (2, 0)
    pids = (tmp_path / "again.started").read_text().split()
    assert len(set(pids)) == len(pids) == 2
    assert "worker.retires" in worker.log
