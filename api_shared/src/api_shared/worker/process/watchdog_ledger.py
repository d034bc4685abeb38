"""Writes to the ledger from a thread, while the event loop is blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from api_shared.client.bind.task import JobTask
from api_shared.errors import LedgerUnavailable, TimeLimitExceeded
from api_shared.ledger.operations import Release
from api_shared.ledger.protocol import Ledger
from api_shared.worker.run.held_claim import HeldClaim, Stop
from api_shared.worker.run.outcome import Cancelled, LostClaim, Outcome, failure
from api_shared.worker.run.settle import settlement
from api_shared.worker.run.worker_runtime import WorkerRuntime

T = TypeVar("T")

ANSWER_S = 5.0
PAST_ALL_WRITES = 1_000
"""Added to a write's number, to be over that of any write that is still on its way."""


class Rescue(Protocol):
    """Blocking, from any thread. Raises `LedgerUnavailable`."""

    def renew(self) -> dict[str, Stop | None]:
        """
        Renew the leases of the process. For each job id: why it must stop, None if it goes on.
        """

    def release_all(self, blocker: HeldClaim | None, stop: Stop | None, stack: str) -> None:
        """Fail the blocker's attempt at its limit, or stop it; release all other jobs."""


@dataclass(frozen=True, slots=True)
class WatchdogLedger(Rescue):
    """Each call has a connection and an event loop of its own."""

    worker: WorkerRuntime
    tasks: Mapping[str, JobTask[Any, Any]]
    open_ledger: Callable[[], Ledger]

    def renew(self) -> dict[str, Stop | None]:
        tokens = self.worker.claims.tokens
        lease_s = self.worker.settings.lease_s
        held = self._ask(lambda ledger: ledger.heartbeat(tokens, lease_s=lease_s))
        stops: dict[str, Stop | None] = dict.fromkeys(tokens, Stop.LOST)
        for job_id, state in held.items():
            stops[job_id] = Stop.CANCEL if state.cancel_requested else None
        return stops

    def release_all(self, blocker: HeldClaim | None, stop: Stop | None, stack: str) -> None:
        others = self.worker.claims.tokens
        write = None
        if blocker is not None:
            if others.get(blocker.job.id) == blocker.token:  # otherwise its job is claimed again
                del others[blocker.job.id]
            outcome = self._outcome(blocker, stop, stack)
            task = self.tasks[blocker.job.task]
            write = settlement(task, blocker, outcome, blocker.next_seq(), self.worker)

        async def apply_all(ledger: Ledger) -> None:
            if write is not None:
                await ledger.apply(write)
            await asyncio.gather(*(_release(ledger, *other) for other in others.items()))

        self._ask(apply_all)

    def _outcome(self, blocker: HeldClaim, stop: Stop | None, stack: str) -> Outcome:
        if stop is Stop.CANCEL:
            return Cancelled()
        if stop is Stop.LOST or blocker.running is None:
            return LostClaim()
        limit = TimeLimitExceeded(blocker.running.hard_limit_s)
        failed = failure(limit, self.tasks[blocker.job.task].contract)
        message = f"{limit}: it blocked the event loop of its worker, which ended with it"
        return replace(failed, error=replace(failed.error, message=message, traceback=stack))

    def _ask(self, question: Callable[[Ledger], Awaitable[T]]) -> T:
        async def ask() -> T:
            ledger = self.open_ledger()
            await ledger.start()
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await question(ledger)
            except TimeoutError:
                raise LedgerUnavailable(f"no answer within {ANSWER_S:g} s") from None
            finally:
                await ledger.close()

        return asyncio.run(ask())


async def _release(ledger: Ledger, job_id: str, token: str) -> None:
    """
    Release by the record's own numbers: this process may not know yet that it holds the claim.
    """
    job = await ledger.get(job_id)
    if job is not None and job.token == token:
        why = "another job blocked its worker"
        await ledger.apply(Release(job_id, token, job.seq + PAST_ALL_WRITES, 0, why))
