"""The protocol of the ledger."""

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
    """The filter of `find`; a field that is None does not filter."""

    status: Status | None = None
    task: str | None = None
    queue: str | None = None
    owner: str | None = None
    broker: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimState:
    """The state of a claim that is still held, as a heartbeat found it."""

    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process as it reports itself. `buffered` counts waiting deliveries by queue."""

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
    Records of jobs. All times are aware, and of the ledger's own clock.

    Its methods raise `LedgerUnavailable` if nothing was written, and `AcceptanceUnknown` for an
    `Insert` whose answer was lost.
    """

    @property
    def requests(self) -> RecordedRequests:
        """The requests that an API has recorded for `process_job`."""

    @property
    def schedules(self) -> ScheduleStore:
        """The records of schedules."""

    async def start(self) -> None:
        """Open connections; does not wait for the server."""

    async def prepare(self) -> None:
        """Create the indexes. Only workers do. Raises `LedgerUnavailable`."""

    async def give_up(self) -> None:
        """Send no more writes: callers that wait for a verdict, and later ones, get an error."""

    async def close(self) -> None: ...

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        """Send until answered (or until `deadline_s`) and return the operation's verdict."""

    async def change(self, change: Change) -> Job | None:
        """
        Find and modify a job. Returns it after the change; None: the guard did not match.

        Raises `UniqueTaken` if another job holds the unique key that the job would hold.
        """

    async def get(self, job_id: str) -> Job | None:
        """Read one job, with majority read concern."""

    async def find(
        self, job_filter: JobFilter, *, limit: int = 50, before: Job | datetime | None = None
    ) -> list[Job]:
        """
        Find jobs, the newest first, without journals. The next page starts `before` the last job of
        this one; a time alone would leave out jobs that were accepted in the same millisecond.
        """

    async def due(
        self, broker: str, *, statuses: Collection[Status] | None = None, limit: int = 100
    ) -> list[Job]:
        """
        Jobs of `broker` that are due now, the longest overdue first, without journals. Only jobs of
        these statuses, or of any.
        """

    async def heartbeat(self, held: Mapping[str, str], *, lease_s: float) -> dict[str, ClaimState]:
        """Renew the leases of `held` (job id → token). Claims missing in the answer are lost."""

    async def queued(self, broker: str, queue: str, *, older_than_s: float = 0) -> int:
        """The number of jobs of a queue that have been `queued` for at least `older_than_s`."""

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
        Jobs that have waited in a queue for at least `older_than_s`, the longest first. With
        `not_due_within_s`, without jobs that a dispatcher will check within that time.
        """

    async def count(self, broker: str) -> dict[str, dict[Status, int]]:
        """Open jobs by queue and status."""

    async def usage_of(self, owner: str) -> dict[str, int]:
        """The total usage of the recorded jobs of `owner`, by name."""

    async def audit(self, scope: Scope, *, overdue_s: float, dispatched: Collection[str]) -> Audit:
        """
        Count what became of the jobs of `scope`. A job that has been due for `overdue_s` counts as
        lost if its broker is one of `dispatched`.
        """

    async def absent(self, job_ids: Collection[str]) -> list[str]:
        """The `job_ids` that have no record."""

    async def withdraw(self, job_id: str, change_id: str) -> bool:
        """Delete a job that `change_id` inserted and that has not changed since."""

    async def report_worker(self, info: WorkerInfo) -> None:
        """Record that a worker process is alive, by the ledger's clock."""

    async def remove_worker(self, worker_id: str) -> None: ...

    async def workers(self, *, seen_within_s: float = 15) -> list[WorkerInfo]:
        """Worker processes that have reported recently."""

    async def server_version(self) -> str:
        """The server's version, for people. Raises `LedgerUnavailable`."""
