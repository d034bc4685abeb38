"""What a thread can do for a process's jobs while the event loop is blocked."""

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
"""Over the number of any write that is still on its way."""


class Rescue(Protocol):
    """Blocking, from any thread. Raises `LedgerUnavailable`."""

    def renew(self) -> dict[str, Stop | None]:
        """Renew the leases of the process: for each job id whether it must stop."""

    def release_all(self, blocker: HeldClaim | None, stop: Stop | None, stack: str) -> None:
        """The blocker's attempt has failed at its limit, or it was to stop; all others go on."""


@dataclass(frozen=True, slots=True)
class WatchdogLedger(Rescue):
    """Through a connection of its own each time, in an event loop of its own."""

    worker: WorkerRuntime
    tasks: Mapping[str, JobTask[Any, Any]]
    open_ledger: Callable[[], Ledger]

    def renew(self) -> dict[str, Stop | None]:
        tokens = self.worker.claims.tokens
        lease_s = self.worker.settings.lease_s
        standing = self._ask(lambda ledger: ledger.heartbeat(tokens, lease_s=lease_s))
        stops: dict[str, Stop | None] = dict.fromkeys(tokens, Stop.LOST)
        for job_id, held in standing.items():
            stops[job_id] = Stop.CANCEL if held.cancel_requested else None
        return stops

    def release_all(self, blocker: HeldClaim | None, stop: Stop | None, stack: str) -> None:
        others = self.worker.claims.tokens
        write = None
        if blocker is not None:
            if others.get(blocker.job.id) == blocker.token:  # else its job is claimed anew
                del others[blocker.job.id]
            outcome = self._outcome(blocker, stop, stack)
            task = self.tasks[blocker.job.task]
            write = settlement(task, blocker, outcome, blocker.next_seq(), self.worker)

        async def apply_all(ledger: Ledger) -> None:
            if write is not None:
                await ledger.apply(write)
            await asyncio.gather(*(_hand_on(ledger, *other) for other in others.items()))

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


async def _hand_on(ledger: Ledger, job_id: str, token: str) -> None:
    """As the record stands: this process may not have heard yet that it holds the claim."""
    job = await ledger.get(job_id)
    if job is not None and job.token == token:
        why = "another job blocked its worker"
        await ledger.apply(Release(job_id, token, job.seq + PAST_ALL_WRITES, 0, why))
