"""The time until the jobs of a killed process ran again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from api_shared.job import Job, Status


def recoveries(jobs: Collection[Job], deaths: Mapping[int, datetime]) -> Iterator[float]:
    """
    Seconds from a process's death (pid → when) until each job it held ran again or ended.

    The ledger and the process that kills share a machine's clock here.
    """
    for job in jobs:
        for entry, following in zip(job.history, job.history[1:], strict=False):
            died = deaths.get(pid_of(entry.worker))
            if died is None or entry.status is not Status.PROCESSING or following.at < died:
                continue
            again = next(
                (later.at for later in job.history if later.at > died and later.worker is not None),
                None,
            )
            if again is not None:
                yield (again - died).total_seconds()


def pid_of(worker: str | None) -> int:
    """A worker's id is HOST-PID-RANDOM; 0 where there is none."""
    return int(worker.rsplit("-", 2)[1]) if worker else 0
