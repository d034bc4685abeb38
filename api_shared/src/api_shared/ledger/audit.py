"""The audit: counts of what became of jobs, by which the promises are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from api_shared.job import Job, Status

EXAMPLES = 20
"""How many findings an audit names; it counts all of them."""


@dataclass(frozen=True, slots=True)
class Scope:
    """
    The jobs that are counted: accepted from `since` and before `until`, of one run. None: any.
    """

    since: datetime | None = None
    until: datetime | None = None
    correlation_id: str | None = None


class Violation(StrEnum):
    """The promise that a job breaks."""

    STRANDED = "stranded"
    """Open, but without a time at which a dispatcher would act on it."""
    OVERDUE = "overdue"
    """A dispatcher is alive and should have acted on it long ago, but has not."""
    NO_DEAD_LETTER = "no_dead_letter"
    """Failed, and its dead letter is neither confirmed nor going to be published."""
    VANISHED = "vanished"
    """Accepted, but the ledger has no record of it."""
    ENDED_TWICE = "ended_twice"
    """Two ends in one round of its history."""


LOST = frozenset(Violation) - {Violation.ENDED_TWICE}


@dataclass(frozen=True, slots=True)
class Finding:
    job_id: str
    broken: Violation


@dataclass(frozen=True, slots=True)
class Audit:
    """
    Counts of jobs. `open` jobs have not ended; `lost` jobs are open or failed, and will not go on.

    `ran_again` counts jobs that were claimed more than once, also after retries and snoozes.
    `findings` names some of the jobs that were lost or ended twice.
    """

    accepted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    open: int = 0
    lost: int = 0
    ended_twice: int = 0
    late_writes_refused: int = 0
    ran_again: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def is_sound(self) -> bool:
        return not self.lost and not self.ended_twice


def audit_of(
    jobs: Iterable[Job], now: datetime, *, overdue_s: float, dispatched: Collection[str]
) -> Audit:
    """Count these records. `dispatched` names the brokers whose dispatchers are assumed to run."""
    latest = now - timedelta(seconds=overdue_s)
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    for job in jobs:
        counts["accepted"] += 1
        counts[job.status if job.status.is_terminal else "open"] += 1
        counts["late_writes_refused"] += job.late_writes
        counts["ran_again"] += job.claim_no > 1
        if lost := _lost(job, latest, dispatched):
            counts["lost"] += 1
            findings.append(Finding(job.id, lost))
        if _ended_twice(job):
            counts["ended_twice"] += 1
            findings.append(Finding(job.id, Violation.ENDED_TWICE))
    return Audit(**counts, findings=tuple(findings[:EXAMPLES]))


def is_counted(job: Job, scope: Scope) -> bool:
    return (
        (scope.since is None or job.accepted_at >= scope.since)
        and (scope.until is None or job.accepted_at < scope.until)
        and (scope.correlation_id is None or job.correlation_id == scope.correlation_id)
    )


def _lost(job: Job, latest: datetime, dispatched: Collection[str]) -> Violation | None:
    if job.due_at is not None:
        is_overdue = job.broker in dispatched and job.due_at <= latest
        return Violation.OVERDUE if is_overdue else None
    if not job.status.is_terminal:
        return Violation.STRANDED
    if job.status is Status.FAILED and not job.failure_told:
        return Violation.NO_DEAD_LETTER
    return None


def _ended_twice(job: Job) -> bool:
    rounds = [entry.round for entry in job.history if entry.status.is_terminal]
    return len(rounds) > len(set(rounds))
