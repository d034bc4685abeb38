"""
Checking the promises against the ledger: was anything lost, has anything ended twice?

`kiq verify` and `kiq chaos` ask this; so may a test of yours, after a run of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from api_shared.ledger.audit import EXAMPLES, Audit, Finding, Scope, Violation
from api_shared.ledger.protocol import Ledger

OVERDUE_S = 120.0
"""After so long without an act of a dispatcher that is alive, a due job counts as lost."""


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

    `accepted` are the ids that a kiq has returned, if the caller kept them: one without a record
    is lost, unless its retention is over. `overdue_s` None: a job is not lost for being overdue
    (a dispatcher that cannot reach RabbitMQ leaves queued jobs due). Only brokers count of which
    a worker has been alive for that long: after an outage of all workers there is much to do.
    `alive_within_s`: a worker is alive if it has reported since (LEASE_S). Raises
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
