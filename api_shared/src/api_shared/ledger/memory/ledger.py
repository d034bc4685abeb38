"""A ledger in memory, with the changes and verdicts of the real one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from api_shared.errors import LedgerUnavailable, UniqueTaken
from api_shared.job import Job, Status, parse_job_id
from api_shared.ledger.apply import as_inserted, changed, matches, to_milliseconds
from api_shared.ledger.audit import Audit, Scope, audit_of, is_counted
from api_shared.ledger.change import (
    Change,
    NowPlus,
)
from api_shared.ledger.memory.requests import MemoryRequests
from api_shared.ledger.memory.schedules import MemoryScheduleStore
from api_shared.ledger.operations import Insert, Operation
from api_shared.ledger.protocol import ClaimState, JobFilter, Ledger, WorkerInfo
from api_shared.ledger.usage import added

V = TypeVar("V")


def utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryLedger(Ledger):
    """
    A ledger for one event loop, whose jobs live as long as the object.

    `now` is its clock, to the millisecond as in MongoDB. A test that moves it sees leases run out
    and ended jobs expire without waiting.
    """

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._clock = now
        self._jobs: dict[str, Job] = {}
        self._workers: dict[str, WorkerInfo] = {}
        self._gave_up = False
        self._requests = MemoryRequests()
        self._schedules = MemoryScheduleStore(self._now)

    @property
    def requests(self) -> MemoryRequests:
        return self._requests

    @property
    def schedules(self) -> MemoryScheduleStore:
        return self._schedules

    async def start(self) -> None:
        """Nothing to open."""

    async def prepare(self) -> None:
        """Nothing to index."""

    async def give_up(self) -> None:
        self._gave_up = True

    async def close(self) -> None:
        """Nothing to close: the records stay readable."""

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        if self._gave_up:
            raise LedgerUnavailable("closed")
        if isinstance(operation, Insert):
            record: Job | None = self._insert(operation)
        elif self._apply(operation.change) is not None and operation.if_matched is not None:
            return operation.if_matched
        else:
            record = self._lookup(operation.change.job_id)
        return operation.verdict(record)

    async def change(self, change: Change) -> Job | None:
        return self._apply(change)

    async def get(self, job_id: str) -> Job | None:
        return self._lookup(job_id)

    async def find(
        self, job_filter: JobFilter, *, limit: int = 50, before: Job | datetime | None = None
    ) -> list[Job]:
        found = [
            replace(job, journal={})
            for job in self._living()
            if _passes(job, job_filter) and _is_before(job, before)
        ]
        found.sort(key=lambda job: (job.accepted_at, job.id), reverse=True)
        return found[:limit]

    async def due(
        self, broker: str, *, statuses: Collection[Status] | None = None, limit: int = 100
    ) -> list[Job]:
        now = self._now()
        due = [
            (job.due_at, job)
            for job in self._living()
            if job.broker == broker and job.due_at is not None and job.due_at <= now
            if statuses is None or job.status in statuses
        ]
        due.sort(key=lambda pair: pair[0])
        return [replace(job, journal={}) for _, job in due[:limit]]

    async def heartbeat(self, held: Mapping[str, str], *, lease_s: float) -> dict[str, ClaimState]:
        still: dict[str, ClaimState] = {}
        for job_id, token in held.items():
            renewal = Change(
                job_id,
                {"token": token, "status": Status.PROCESSING},
                {"due_at": NowPlus(lease_s)},
            )
            job = self._apply(renewal)
            if job is not None:
                still[job_id] = ClaimState(job.cancel_requested)
        return still

    async def queued(self, broker: str, queue: str, *, older_than_s: float = 0) -> int:
        return len(self._queued_since(broker, queue, older_than_s))

    async def oldest_queued(
        self,
        broker: str,
        queue: str,
        *,
        limit: int,
        older_than_s: float = 0,
        not_due_within_s: float | None = None,
    ) -> list[Job]:
        waiting = [job for _, job in self._queued_since(broker, queue, older_than_s)]
        if not_due_within_s is not None:
            soon = self._now() + timedelta(seconds=not_due_within_s)
            waiting = [job for job in waiting if job.due_at is not None and job.due_at > soon]
        return [replace(job, journal={}) for job in waiting[:limit]]

    async def count(self, broker: str) -> dict[str, dict[Status, int]]:
        counts: defaultdict[str, Counter[Status]] = defaultdict(Counter)
        for job in self._living():
            if job.broker == broker and not job.status.is_terminal:
                counts[job.queue][job.status] += 1
        return {queue: dict(by_status) for queue, by_status in counts.items()}

    async def usage_of(self, owner: str) -> dict[str, int]:
        used: dict[str, int] = {}
        for job in self._living():
            if job.owner == owner:
                used = added(used, job.usage)
        return used

    async def audit(self, scope: Scope, *, overdue_s: float, dispatched: Collection[str]) -> Audit:
        counted = (job for job in self._living() if is_counted(job, scope))
        return audit_of(counted, self._now(), overdue_s=overdue_s, dispatched=dispatched)

    async def absent(self, job_ids: Collection[str]) -> list[str]:
        return [job_id for job_id in job_ids if self._lookup(job_id) is None]

    async def withdraw(self, job_id: str, change_id: str) -> bool:
        job = self._lookup(job_id)
        untouched = (
            job is not None
            and job.status is Status.QUEUED
            and job.claim_no == 0
            and [entry.change_id for entry in job.history] == [change_id]
        )
        if untouched:
            del self._jobs[parse_job_id(job_id)]
        return untouched

    async def report_worker(self, info: WorkerInfo) -> None:
        known = self._workers.get(info.id)
        now = self._now()
        started_at = now if known is None else known.started_at
        self._workers[info.id] = replace(info, started_at=started_at, seen_at=now)

    async def remove_worker(self, worker_id: str) -> None:
        self._workers.pop(worker_id, None)

    async def workers(self, *, seen_within_s: float = 15) -> list[WorkerInfo]:
        earliest = self._now() - timedelta(seconds=seen_within_s)
        seen = [w for w in self._workers.values() if w.seen_at is not None]
        return sorted(
            (w for w in seen if w.seen_at is not None and w.seen_at >= earliest),
            key=lambda worker: worker.id,
        )

    async def server_version(self) -> str:
        return "in memory"

    def _now(self) -> datetime:
        return to_milliseconds(self._clock())

    def _queued_since(
        self, broker: str, queue: str, older_than_s: float
    ) -> list[tuple[datetime, Job]]:
        latest = self._now() - timedelta(seconds=older_than_s)
        waiting = [
            (job.queued_at, job)
            for job in self._living()
            if (job.broker, job.queue, job.status) == (broker, queue, Status.QUEUED)
            and job.queued_at is not None
            and job.queued_at <= latest
        ]
        return sorted(waiting, key=lambda since_and_job: since_and_job[0])

    def _lookup(self, job_id: str) -> Job | None:
        key = parse_job_id(job_id)
        job = self._jobs.get(key)
        if job is not None and job.expires_at is not None and job.expires_at <= self._now():
            del self._jobs[key]
            return None
        return job

    def _living(self) -> Iterable[Job]:
        return [job for key in list(self._jobs) if (job := self._lookup(key)) is not None]

    def _insert(self, operation: Insert) -> Job:
        """The inserted job, or the job that is there instead."""
        known = self._lookup(operation.job.id) or self._holder(operation.job)
        if known is not None:
            return known
        job = as_inserted(operation, self._now())
        self._jobs[job.id] = job
        return job

    def _holder(self, job: Job) -> Job | None:
        """The other job that holds the unique key of `job`."""
        if not job.unique_held:
            return None
        key = (job.task, job.unique_key)
        holders = (
            other
            for other in self._living()
            if other.unique_held and (other.task, other.unique_key) == key and other.id != job.id
        )
        return next(holders, None)

    def _apply(self, change: Change) -> Job | None:
        job = self._lookup(change.job_id)
        now = self._now()
        if job is None or not matches(job, change.guard, now):
            return None
        after = changed(job, change, now)
        if not job.unique_held and (holder := self._holder(after)) is not None:
            raise UniqueTaken(str(job.unique_key), holder.id)
        self._jobs[job.id] = after
        return after


def _passes(job: Job, job_filter: JobFilter) -> bool:
    return all(
        value is None or getattr(job, name) == value
        for name in JobFilter.__dataclass_fields__
        for value in [getattr(job_filter, name)]
    )


def _is_before(job: Job, before: Job | datetime | None) -> bool:
    if before is None:
        return True
    if isinstance(before, Job):
        return (job.accepted_at, job.id) < (before.accepted_at, before.id)
    return job.accepted_at < before
