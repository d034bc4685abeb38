"""The records of all jobs of a run."""

from __future__ import annotations

from api_shared.job import Job
from api_shared.ledger.protocol import JobFilter, Ledger

PAGE = 500


async def every_job(ledger: Ledger) -> list[Job]:
    """All jobs of a ledger, newest first."""
    jobs: list[Job] = []
    while page := await ledger.find(JobFilter(), limit=PAGE, before=jobs[-1] if jobs else None):
        jobs += page
    return jobs
