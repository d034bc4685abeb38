"""
Verification of the promises by the ledger: no job is lost, and none ends twice.

`kiq verify` and `kiq chaos` use it; a test of your own can use it after a run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from api_shared.ledger.audit import EXAMPLES, Audit, Finding, Scope, Violation
from api_shared.ledger.protocol import Ledger

OVERDUE_S = 120.0
"""A due job counts as lost if no dispatcher has acted on it for so long while one is alive."""


async def verify(
    ledger: Ledger,
    scope: Scope,
    *,
    accepted: Collection[str] = (),
    overdue_s: float | None = OVERDUE_S,
    alive_within_s: float = 15,
) -> Audit:
    """
    Count the jobs of `scope`.

    `accepted` are the ids that a kiq has returned, if the caller kept them. An id without a record
    is lost, unless its retention is over. `overdue_s` None: overdue jobs do not count as lost (a
    dispatcher that cannot reach RabbitMQ leaves queued jobs due). Only the brokers count that have
    had a worker for that long: after an outage of all workers many jobs are due.
    `alive_within_s`: a worker is alive if it has reported within this time (LEASE_S). Raises
    `LedgerUnavailable`.
    """
    dispatched: set[str] = set()
    if overdue_s is not None:
        dispatched = {
            worker.broker
            for worker in await ledger.workers(seen_within_s=alive_within_s)
            if worker.started_at is not None
            and worker.seen_at is not None
            and (worker.seen_at - worker.started_at).total_seconds() >= overdue_s
        }
    audit = await ledger.audit(scope, overdue_s=overdue_s or 0, dispatched=dispatched)
    vanished = await ledger.absent(accepted)
    findings = (*(Finding(job_id, Violation.VANISHED) for job_id in vanished), *audit.findings)
    return replace(
        audit,
        accepted=audit.accepted + len(vanished),
        lost=audit.lost + len(vanished),
        findings=findings[:EXAMPLES],
    )
