"""Waiting for a condition, with a deadline: nothing here sleeps for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

LONG_S = 180.0
"""For a machine that does much else: what is waited for takes seconds."""


class NotInTime(AssertionError):
    """What had to become true did not."""

    def __init__(self, what: str, within_s: float) -> None:
        self.what = what
        self.within_s = within_s
        super().__init__(f"not within {within_s:g} s: {what}")


async def until(
    condition: Callable[[], Awaitable[Any] | Any], within_s: float = LONG_S, what: str = ""
) -> Any:
    """The first true value of `condition`. Raises `NotInTime`."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotInTime(what or condition.__name__, within_s)
        await asyncio.sleep(0.05)
