"""The cancellation of asyncio tasks, repeated until they have ended."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.5


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """
    Cancel tasks and wait until all have ended. Their exceptions are dropped.

    One cancellation may be lost: `asyncio.wait_for` of Python 3.11, which drivers use, swallows it
    when what it waits for is done in that moment. Who then awaits the task waits for ever.
    https://github.com/python/cpython/issues/86296
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
