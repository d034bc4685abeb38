"""`kiq show` and `kiq verify`: jobs of the ledger, and the workers that take them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api_shared.cli.commands import jobs, verify
from api_shared.cli.main import run_command
from api_shared.errors import LedgerUnavailable
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.protocol import WorkerInfo
from fixtures.doubles import Clock
from fixtures.ledgers import inserted


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryLedger:
    """The one that the commands read."""
    ledger = MemoryLedger(clock)

    @asynccontextmanager
    async def ledger_of(_: object) -> AsyncIterator[MemoryLedger]:
        yield ledger

    async def no_messages(_: object) -> dict[str, int]:
        return {"ready": 0, "dead": 0}

    for command in (jobs, verify):
        monkeypatch.setattr(command, "ledger_of", ledger_of)
    monkeypatch.setattr(verify, "_depths", no_messages)
    monkeypatch.chdir(tmp_path)
    return ledger


def test_a_job_is_shown_though_nobody_can_count_what_its_owner_has_used(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def in_vain(owner: str) -> dict[str, int]:
        raise LedgerUnavailable(f"{owner} has too many jobs")

    monkeypatch.setattr(ledger, "usage_of", in_vain)
    job = asyncio.run(inserted(ledger, owner="ada"))
    assert run_command(["show", job.id]) == 0
    printed = capsys.readouterr()
    assert job.id in printed.out
    assert "what the jobs of ada have used up together could not be counted" in printed.err
    assert run_command(["show", job.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["owner_usage"] is None


def test_a_worker_that_reports_seldom_is_alive_for_a_lease(
    ledger: MemoryLedger,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HEARTBEAT_S", "20")
    monkeypatch.setenv("LEASE_S", "40")
    worker = WorkerInfo("w", "general", "host", 1, ("taskiq",), 0, {})
    job = asyncio.run(inserted(ledger))
    for passed_s in (0, 300):
        clock.advance(passed_s)
        asyncio.run(ledger.report_worker(worker))
    clock.advance(18)
    assert run_command(["show", job.id]) == 0
    assert "workers alive: 1" in capsys.readouterr().out
    assert run_command(["verify"]) == 1
    assert f"job {job.id}: overdue" in capsys.readouterr().err
