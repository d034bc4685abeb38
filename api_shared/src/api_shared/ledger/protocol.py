"""The ledger as the rest of the platform sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from api_shared.job import Job, Status
from api_shared.ledger.audit import Audit, Scope
from api_shared.ledger.change import Change
from api_shared.ledger.operations import Operation
from api_shared.ledger.requests import RecordedRequests
from api_shared.schedules.store import ScheduleStore

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs `find` returns; a field that is None does not filter."""

    status: Status | None = None
    task: str | None = None
    queue: str | None = None
    owner: str | None = None
    broker: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimState:
    """What a heartbeat found of a claim that is still held."""

    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process as it reports itself; `buffered` counts deliveries not started, by queue."""

    id: str
    broker: str
    host: str
    pid: int
    queues: tuple[str, ...]
    running: int
    buffered: Mapping[str, int]
    started_at: datetime | None = None
    seen_at: datetime | None = None


class Ledger(Protocol):
    """
    Raises `LedgerUnavailable` where the answer is a clear no, and `AcceptanceUnknown` from an
    `Insert` whose answer was lost. All times it returns are aware and its own.
    """

    @property
    def requests(self) -> RecordedRequests:
        """What an API has recorded for `process_job`."""

    @property
    def schedules(self) -> ScheduleStore:
        """The records of schedules."""

    async def start(self) -> None:
        """Open connections; does not wait for the server."""

    async def prepare(self) -> None:
        """Create the indexes; for workers. Raises `LedgerUnavailable`."""

    async def give_up(self) -> None:
        """Send no write any more: who waits for a verdict, or asks later, gets an error."""

    async def close(self) -> None: ...

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        """Send until answered (or until `deadline_s`) and return the operation's verdict."""

    async def change(self, change: Change) -> Job | None:
        """
        Find and modify; the job after the change, or None where the guard did not match.

        Raises `UniqueTaken` where the job would hold a unique key that another one holds.
        """

    async def get(self, job_id: str) -> Job | None:
        """A majority read of one job."""

    async def find(
        self, wanted: JobFilter, *, limit: int = 50, before: Job | datetime | None = None
    ) -> list[Job]:
        """
        Newest first, without journals. The next page starts `before` the last job of this one;
        a time alone would leave out others accepted in the same millisecond.
        """

    async def due(
        self, broker: str, *, statuses: Collection[Status] | None = None, limit: int = 100
    ) -> list[Job]:
        """
        Jobs of `broker` on which somebody must act now, the longest overdue first; no journals.
        Of these statuses only, or of any.
        """

    async def heartbeat(self, held: Mapping[str, str], *, lease_s: float) -> dict[str, ClaimState]:
        """Renew the leases of `held` (job id → token); those missing in the answer are lost."""

    async def queued(self, broker: str, queue: str, *, older_than_s: float = 0) -> int:
        """How many jobs of a queue have the status `queued` since at least `older_than_s`."""

    async def oldest_queued(
        self,
        broker: str,
        queue: str,
        *,
        limit: int,
        older_than_s: float = 0,
        not_due_within_s: float | None = None,
    ) -> list[Job]:
        """
        Jobs that wait in a queue since at least `older_than_s`, the longest first;
        `not_due_within_s`: without those that somebody looks after so soon anyway.
        """

    async def count(self, broker: str) -> dict[str, dict[Status, int]]:
        """Open jobs by queue and status."""

    async def usage_of(self, owner: str) -> dict[str, int]:
        """What the jobs of `owner` that are still recorded have used up together, by name."""

    async def audit(self, scope: Scope, *, overdue_s: float, dispatched: Collection[str]) -> Audit:
        """
        What became of the jobs of `scope`. A job that is due since `overdue_s` counts as lost if
        its broker is one of `dispatched`.
        """

    async def absent(self, job_ids: Collection[str]) -> list[str]:
        """Those of `job_ids` of which there is no record."""

    async def withdraw(self, job_id: str, change_id: str) -> bool:
        """Delete a job that `change_id` inserted and nobody has touched since."""

    async def report_worker(self, info: WorkerInfo) -> None:
        """Record that a worker process is alive, by the ledger's clock."""

    async def remove_worker(self, worker_id: str) -> None: ...

    async def workers(self, *, seen_within_s: float = 15) -> list[WorkerInfo]:
        """Worker processes that have reported lately."""

    async def server_version(self) -> str:
        """For people; raises `LedgerUnavailable`."""
