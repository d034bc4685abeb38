"""The claims that a worker process holds, and the heartbeat that renews them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from api_shared.errors import LedgerUnavailable
from api_shared.ledger.protocol import Ledger
from api_shared.worker.run.held_claim import HeldClaim, Stop

log = structlog.get_logger()


class ClaimRegistry:
    """
    All claims of a process, by token. A heartbeat renews them with one write.

    A job can be claimed again while an earlier body of it still runs here: its lease had run out.
    """

    def __init__(self, ledger: Ledger, *, lease_s: float, heartbeat_s: float) -> None:
        self._ledger = ledger
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._held: dict[str, HeldClaim] = {}
        self._pending: dict[str, str] = {}
        self._all_stopped: Stop | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.unreachable = False

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldClaim]:
        return iter(list(self._held.values()))

    @property
    def tokens(self) -> dict[str, str]:
        """
        The token of the latest claim by job id, those of claims that are being written included.
        """
        pending = {job_id: token for token, job_id in self._pending.copy().items()}
        return pending | {claim.job.id: claim.token for claim in self._held.copy().values()}

    @contextmanager
    def writing(self, job_id: str, token: str) -> Iterator[None]:
        """Register a claim while it is written: it may hold before its writer knows."""
        self._pending[token] = job_id
        try:
            yield
        finally:
            del self._pending[token]

    def add(self, claim: HeldClaim) -> None:
        self._held[claim.token] = claim
        self._idle.clear()
        if self._all_stopped is not None:  # the stop came while the claim was written
            claim.stop(self._all_stopped)

    def remove(self, claim: HeldClaim) -> None:
        del self._held[claim.token]
        if not self._held:
            self._idle.set()

    def stop_earlier(self, claim: HeldClaim) -> bool:
        """Stop earlier runs of its job, whose claims are lost. True if there was any."""
        earlier = [each for each in self._on(claim.job.id) if each is not claim]
        for each in earlier:
            each.stop(Stop.LOST)
        return bool(earlier)

    def cancel(self, job_id: str) -> None:
        for claim in self._on(job_id):
            claim.stop(Stop.CANCEL)

    def stop_all(self, reason: Stop) -> None:
        """Stop the claims that are held, and those that are added later."""
        self._all_stopped = reason
        for claim in self:
            claim.stop(reason)

    async def wait_idle(self) -> None:
        await self._idle.wait()

    async def keep(self) -> None:
        """Send heartbeats for ever. While the ledger is away, the claims may still hold."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if self._held:
                await self._beat()

    def _on(self, job_id: str) -> list[HeldClaim]:
        return [claim for claim in self if claim.job.id == job_id]

    async def _beat(self) -> None:
        beaten = {claim.job.id: claim for claim in self}
        tokens = {job_id: claim.token for job_id, claim in beaten.items()}
        try:
            held = await self._ledger.heartbeat(tokens, lease_s=self._lease_s)
        except LedgerUnavailable as error:
            if not self.unreachable:
                log.warning("heartbeat.failed", claims=len(tokens), error=str(error))
            self.unreachable = True
            return
        self.unreachable = False
        for job_id, claim in beaten.items():
            if job_id not in held:
                claim.stop(Stop.LOST)
            elif held[job_id].cancel_requested:
                claim.stop(Stop.CANCEL)
