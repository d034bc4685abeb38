"""Poison: tasks that end, block or break the process that runs them, each in its own way."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

from taskiq import TaskiqDepends

from api_shared.job import Reason
from api_shared.testing.chaos.trace import traced
from api_shared.testing.chaos.workers.load import broker
from api_shared.worker.context import JobContext

SOFT_S, HARD_S = 1.0, 2.0
CPU_SOFT_S, CPU_HARD_S = 4.0, 6.0
"""They count from the fork on."""
MEMORY_LIMIT_MB = 2_048


def _segfault() -> Any:
    return ctypes.string_at(0)


def _exit() -> Any:
    os._exit(9)


def _killed_for_its_memory() -> Any:
    """As the kernel does it; a real one would take others with it."""
    os.kill(os.getpid(), signal.SIGKILL)


def _busy_and_deaf() -> Any:
    while True:
        try:
            time.sleep(0.05)
        except BaseException:  # noqa: S112 - this is the point
            continue


def _keeps_the_interpreter() -> Any:
    return bool(re.match(r"(a+)+$", "a" * 64 + "b"))


def _takes_memory() -> Any:
    return len(bytearray((MEMORY_LIMIT_MB + 1) * 1024 * 1024))


RESULTS: dict[str, Callable[[], Any]] = {
    "no-json": object,
    "lone-surrogate": lambda: "\ud800",
    "too-large": lambda: "x" * 3_000_000,
}

ASYNC: dict[str, tuple[Callable[[], Any], Reason]] = {
    "segfault": (_segfault, Reason.LOST),
    "exit": (_exit, Reason.LOST),
    "killed": (_killed_for_its_memory, Reason.LOST),
    "keeps-interpreter": (_keeps_the_interpreter, Reason.LOST),
    "busy": (_busy_and_deaf, Reason.TIME_LIMIT),
}

CPU: dict[str, tuple[Callable[[], Any], Reason]] = {
    "segfault": (_segfault, Reason.ERROR),
    "exit": (_exit, Reason.ERROR),
    "killed": (_killed_for_its_memory, Reason.ERROR),
    "memory": (_takes_memory, Reason.ERROR),
    "busy": (_busy_and_deaf, Reason.TIME_LIMIT),
}

for _name, _result in RESULTS.items():
    ASYNC[_name] = CPU[_name] = (_result, Reason.INVALID_RESULT)


@broker.task(
    task_name="chaos.poison", soft_timeout=SOFT_S, timeout=HARD_S, max_retries=1, backoff_s=0.1
)
async def poison(folder: str, kind: str, job: JobContext = TaskiqDepends()) -> Any:
    with traced(folder, job.id):
        return ASYNC[kind][0]()


@broker.task(
    task_name="chaos.stubborn", soft_timeout=SOFT_S, timeout=HARD_S, max_retries=1, backoff_s=0.1
)
async def stubborn(folder: str, job: JobContext = TaskiqDepends()) -> None:
    """Swallows every cancellation, for ever."""
    with traced(folder, job.id):
        while True:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue


@broker.task(
    task_name="chaos.cpu_poison",
    soft_timeout=CPU_SOFT_S,
    timeout=CPU_HARD_S,
    max_retries=1,
    backoff_s=0.1,
    memory_limit_mb=MEMORY_LIMIT_MB,
)
def cpu_poison(folder: str, kind: str, job: JobContext = TaskiqDepends()) -> Any:
    with traced(folder, job.id):
        return CPU[kind][0]()


@broker.task(task_name="chaos.huge_number")
async def huge_number() -> int:
    """What BSON cannot hold, and the ledger's JSON text can."""
    return 2**70
