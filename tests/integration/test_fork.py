"""Brokers in the children of a fork: they are not started there, say so, and can be started."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from api_shared.ledger.protocol import JobFilter
from fixtures.workers import LONG_S, TESTS, Platform


@pytest.mark.parametrize(
    ("program", "owners"),
    [("thread", {"before", "child", "after"}), ("loop", {"before", "after"})],
)
async def test_a_fork_hangs_nothing_and_leaves_its_parent_alone(
    platform: Platform, program: str, owners: set[str]
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(TESTS / "fork_program.py"), program,
        env={**os.environ, **platform.env}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONG_S):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode()
    assert {job.owner for job in await platform.ledger.find(JobFilter())} == owners
