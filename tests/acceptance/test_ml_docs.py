"""The commands of docs/ml.md, run as a user runs them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from fixtures.workers import LONG_S, Platform

ROOT = Path(__file__).parents[2]
FAILS = "project_id=none"
"""The one command that is there to show how a job fails."""


def commands() -> list[str]:
    """All but those that look into files by the ids of the jobs that wrote them."""
    lines = (ROOT / "docs/ml.md").read_text(encoding="utf-8").splitlines()
    typed = [line.removeprefix("    $ ") for line in lines if line.startswith("    $ ")]
    return [line for line in typed if line.startswith(("kiq ", "python bench/docstrings.py"))]


async def run(platform: Platform, line: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_shell(
        line,
        cwd=platform.folder,
        env={
            **os.environ,
            **platform.env,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(LONG_S):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_each_command_of_the_page_does_what_the_page_says(platform: Platform) -> None:
    await platform.worker("workers_ml.main:broker")
    (platform.folder / "bench").symlink_to(ROOT / "bench")
    lines = commands()
    assert len(lines) >= 8
    said = {}
    for line in lines:
        code, said[line] = await run(platform, line)
        assert code == (1 if FAILS in line else 0), f"{line}\n{said[line]}"
    whole = "\n".join(said.values())
    for words in ("run index_documents first", '"macro_f1"', '"predictions"', '"deleted": 1'):
        assert words in whole
