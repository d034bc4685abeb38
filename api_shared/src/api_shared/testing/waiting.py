"""Waits for conditions, with a deadline instead of a sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

LONG_S = 180.0
"""A deadline for a busy machine: the condition itself takes seconds."""


class NotInTime(AssertionError):
    """A condition did not become true before its deadline."""

    def __init__(self, what: str, within_s: float) -> None:
        self.what = what
        self.within_s = within_s
        super().__init__(f"not within {within_s:g} s: {what}")


async def until(
    condition: Callable[[], Awaitable[Any] | Any],
    within_s: float = LONG_S,
    what: str = "",
    *,
    every_s: float = 0.05,
) -> Any:
    """
    The first true value of `condition`, which is called every `every_s` seconds.

        running = asyncio.create_task(asyncio.to_thread(sorted, [2, 1]))
        await until(running.done, 60, "the thread has ended")

    `every_s` 0 calls it at each turn of the event loop. Raises `NotInTime`.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotInTime(what or condition.__name__, within_s)
        await asyncio.sleep(every_s)
