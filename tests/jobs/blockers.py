"""Tasks that block the event loop of their worker, or will not stop, each in its way."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from jobs.broker import broker
from jobs.tasks import POLL_S, say


def told(folder: str, name: str) -> bool:
    return (Path(folder) / f"{name}.go").exists()


@broker.task(task_name="spin", soft_timeout=3, timeout=60, max_retries=0)
async def spin(folder: str, name: str) -> None:
    """Blocks in Python, and lets itself be stopped."""
    say(folder, f"{name}.started", str(os.getpid()))
    while not told(folder, name):
        time.sleep(POLL_S)  # noqa: ASYNC251 - it blocks on purpose


@broker.task(task_name="spin_deaf", soft_timeout=7, timeout=8, max_retries=1, backoff_s=0)
async def spin_deaf(folder: str, name: str) -> None:
    """Blocks in Python, and swallows whatever is raised in it."""
    say(folder, f"{name}.started", str(os.getpid()))
    while not told(folder, name):
        try:
            while not told(folder, name):
                time.sleep(POLL_S)  # noqa: ASYNC251 - it blocks on purpose
        except BaseException:
            continue


@broker.task(task_name="hold_interpreter", soft_timeout=1, timeout=2)
async def hold_interpreter(folder: str, name: str) -> None:
    """One call into C that keeps the interpreter for itself, for ages: no other thread runs."""
    say(folder, f"{name}.started", str(os.getpid()))
    re.match(r"(a+)+$", "a" * 64 + "b")


async def swallow_every_stop(folder: str, name: str) -> None:
    say(folder, f"{name}.started", str(os.getpid()))
    while not told(folder, name):
        try:
            await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            continue


@broker.task(task_name="deaf", soft_timeout=300, timeout=300)
async def deaf(folder: str, name: str) -> None:
    await swallow_every_stop(folder, name)


@broker.task(task_name="deaf_twice", soft_timeout=0.5, timeout=1, max_retries=1, backoff_s=0)
async def deaf_twice(folder: str, name: str) -> None:
    await swallow_every_stop(folder, name)
