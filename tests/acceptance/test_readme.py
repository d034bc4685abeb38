"""What the README shows is run as it stands there."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from fixtures.workers import LONG_S, Platform

README = (Path(__file__).parents[2] / "README.md").read_text()

CLIENT = """
import asyncio
from letters import COUNT_LETTERS, LettersArgs, broker

async def main():
    async with broker:
        job = await COUNT_LETTERS.kiq(LettersArgs(words=["one", "three"]))
        print(await job.result(timeout=180))

asyncio.run(main())
"""


def block(name: str) -> str:
    """The code block behind `<!-- test: name -->`."""
    found = re.search(rf"<!-- test: {re.escape(name)} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block {name!r}"
    return found[1]


async def run(platform: Platform, *arguments: str, stdin: str = "") -> str:
    """What a Python with the platform's variables prints to stdout."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**platform.env, "PYTHONPATH": str(platform.folder)},
        cwd=platform.folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LONG_S):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode == 0, err.decode()
    return out.decode() or err.decode()


async def test_the_five_lines_and_the_synchronous_program_print_a_result(
    platform: Platform,
) -> None:
    await platform.worker("workers_ml.main:broker")
    five_lines = block("five lines")
    assert len([line for line in five_lines.splitlines() if line]) == 5

    pasted = await run(platform, "-m", "asyncio", stdin=five_lines)
    script = await run(platform, "-c", block("synchronous"))

    assert "dataset_id='wine'" in pasted
    assert "dataset_id='wine'" in script


async def test_the_first_screen_makes_a_task_and_kiqs_it(platform: Platform) -> None:
    (platform.folder / "words.py").write_text(block("words.py"))
    await platform.worker("words:broker", PYTHONPATH=str(platform.folder))

    pasted = await run(platform, "-m", "asyncio", stdin=block("kiq words"))

    assert ">>> 3\n" in pasted


async def test_the_new_task_runs_under_plain_taskiq_worker(platform: Platform) -> None:
    (platform.folder / "letters.py").write_text(block("letters.py"))
    await platform.worker("letters:broker", PYTHONPATH=str(platform.folder))

    printed = await run(platform, "-c", CLIENT)

    assert printed == "{'one': 3, 'three': 5}\n"
