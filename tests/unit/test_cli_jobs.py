"""`kiq show`: all that the ledger can tell of a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api_shared.cli import jobs
from api_shared.cli.main import run_command
from api_shared.errors import LedgerUnavailable
from api_shared.ledger.memory import MemoryLedger
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

    monkeypatch.setattr(jobs, "ledger_of", ledger_of)
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
    told = capsys.readouterr()
    assert job.id in told.out
    assert "what the jobs of ada have used up together could not be counted" in told.err
    assert run_command(["show", job.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["owner_usage"] is None
