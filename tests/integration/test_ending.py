"""Workers that end in another way than by a drain."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_shared.job import Status
from api_shared.testing.freezing import frozen
from api_shared.testing.servers import Services, running_servers
from fixtures.workers import Platform, platform_on, until
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
        assert (job.claim_no, job.attempt, job.lost) == (1, 0, 0)
        # The stopping worker's own dispatcher may have queued it again already.
        notes = [entry.note for entry in job.history if entry.status is Status.RETRYING]
        assert notes == ["worker stopped"]


async def test_a_stop_while_the_ledger_is_away_ends_when_no_lease_stands(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_servers(only=["mongodb"], env={}) as own:
        servers = Services({**services.servers, **own.servers}, None)
        async with platform_on(servers, tmp_path, monkeypatch) as platform:
            await platform.start(broker)
            worker = await platform.worker("jobs.main:broker")
            held = await tasks.hold.kiq(str(tmp_path), "held")
            await until((tmp_path / "held.started").exists)
            mongodb = own.mongodb.pid
            assert mongodb is not None
            with frozen(mongodb):
                (tmp_path / "held.go").touch()
                worker.terminate()
                assert await worker.wait() == 0
            assert "worker.gives_up" in worker.log
            assert "job.outcome_lost" in worker.log
            await platform.worker("jobs.main:broker")
            assert (await platform.status_of(held, Status.COMPLETED)).attempt == 0
