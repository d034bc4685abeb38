"""How the last jobs of a worker that stops go on elsewhere."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from api_shared.worker.claims import Claims, Stop

log = structlog.get_logger()

HAND_ON_S = 3.0
"""Taskiq gives a broker's whole shutdown five seconds by default."""


async def hand_on(claims: Claims) -> None:
    """No attempt counted; returns when all are settled, or soon. The rest waits for its lease."""
    if claims:
        log.warning("worker.hands_on", jobs=len(claims))
    claims.stop_all(Stop.DRAIN)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HAND_ON_S):
            await claims.wait_idle()
