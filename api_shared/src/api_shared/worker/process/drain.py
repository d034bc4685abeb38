"""The release of the last jobs of a worker that stops, so that they go on elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import structlog

from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import Stop

log = structlog.get_logger()

RELEASE_S = 3.0
"""By default, taskiq gives the whole shutdown of a broker five seconds."""
GRACE_S = 2.0
"""Added to a lease, for a heartbeat that was under way."""
POLL_S = 0.5


def begin_release(claims: ClaimRegistry) -> None:
    """Stop the jobs that still run. They go on elsewhere; no attempt is counted."""
    if claims:
        log.warning("worker.hands_on", jobs=len(claims))
    claims.stop_all(Stop.DRAIN)


async def release_all(claims: ClaimRegistry, *, within_s: float = RELEASE_S) -> None:
    """
    Return when all are settled, but after `within_s` at the latest: the rest waits for its lease.
    """
    begin_release(claims)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await claims.wait_idle()


async def outlast_leases(claims: ClaimRegistry, *, lease_s: float) -> None:
    """
    Return when there are claims and none of their leases can still hold, because the ledger has
    been away for that long. Until then their outcomes can still be written. It may never return.
    """
    seen_at = monotonic()
    while monotonic() - seen_at < lease_s + GRACE_S:
        await asyncio.sleep(POLL_S)
        if not claims or not claims.unreachable:
            seen_at = monotonic()
    log.error("worker.gives_up", jobs=len(claims), why="the ledger is away for over a lease")
