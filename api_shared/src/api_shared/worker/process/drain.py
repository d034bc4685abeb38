"""How the last jobs of a worker that stops go on elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import structlog

from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import Stop

log = structlog.get_logger()

HAND_ON_S = 3.0
"""Taskiq gives a broker's whole shutdown five seconds by default."""
GRACE_S = 2.0
"""Over a lease: for a heartbeat that was under way."""
LOOK_S = 0.5


def begin_release(claims: ClaimRegistry) -> None:
    """Stop what still runs: it goes on elsewhere, no attempt counted."""
    if claims:
        log.warning("worker.hands_on", jobs=len(claims))
    claims.stop_all(Stop.DRAIN)


async def release_all(claims: ClaimRegistry, *, within_s: float = HAND_ON_S) -> None:
    """Returns when all are settled, or in time: the rest waits for its lease."""
    begin_release(claims)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await claims.wait_idle()


async def outlast_leases(claims: ClaimRegistry, *, lease_s: float) -> None:
    """
    Returns when there are claims and no lease of theirs can stand any more: the ledger has been
    away for so long. Until then their outcomes can still be written; and it may never be so.
    """
    seen_at = monotonic()
    while monotonic() - seen_at < lease_s + GRACE_S:
        await asyncio.sleep(LOOK_S)
        if not claims or not claims.unreachable:
            seen_at = monotonic()
    log.error("worker.gives_up", jobs=len(claims), why="the ledger is away for over a lease")
