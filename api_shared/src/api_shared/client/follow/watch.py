"""
What becomes of a job, live: told by the notifier, vouched for by the ledger.

Redis may lose an event and the ledger never does; Redis is fast, and the ledger is asked seldom.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace

from api_shared.errors import JobNotFound, LedgerUnavailable
from api_shared.job import Job, Progress, Status, parse_job_id
from api_shared.ledger.protocol import Ledger
from api_shared.notifier.events import JobEvent, status_event
from api_shared.notifier.protocol import Notifier


async def watch(
    job_id: str, *, ledger: Ledger, notifier: Notifier, reread_s: float = 3.0
) -> AsyncGenerator[JobEvent, None]:
    """
    Each change of status of the job's present round, once and in order, until the last.

    Between them the latest progress. The ledger is read at the start, every `reread_s`, when an
    event shows that another was missed, and after a lost connection; a ledger that is away for a
    moment is asked again. Raises `InvalidJobId`, `JobNotFound`, and `LedgerUnavailable` from the
    first read only.
    """
    job_id = parse_job_id(job_id)
    clock = asyncio.get_running_loop().time
    async with notifier.subscribe(job_id=job_id) as subscription:
        story = _Story()
        events: list[JobEvent] | None = story.as_recorded(await _read(job_id, ledger))
        reread_at = clock() + reread_s
        while True:
            for event in events or ():
                yield event
            if story.is_over:
                return
            told = await subscription.next(max(0.0, reread_at - clock()))
            events = None if told is None else story.continued_by(told)
            if events is None or clock() >= reread_at:
                reread_at = clock() + reread_s
                with suppress(LedgerUnavailable):
                    record = await _read(job_id, ledger)
                    events = (events or []) + story.as_recorded(record)


async def _read(job_id: str, ledger: Ledger) -> Job:
    job = await ledger.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


class _Story:
    """
    What the watcher has been told, by `seq`.

    A job's writes are numbered without gaps, its progress included, but not each is an event: so
    a change that follows the last known number is told at once, and one further on means that the
    record has to be read. All changes of status up to `_known_seq` have been told.

    Progress is told more often than it is written, and a lost claim leaves its numbers to those
    that come after it: a progress proves nothing about what the ledger has.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._known_seq = -1
        self._status: Status | None = None
        self._progress_seq = -1
        self._progress: Progress | None = None

    def continued_by(self, event: JobEvent) -> list[JobEvent] | None:
        """The news in `event`; None: something before it was missed."""
        if event.seq <= self._known_seq:
            return []
        if event.kind == "progress":
            if self._status is not Status.PROCESSING:
                return None
            if event.seq <= self._progress_seq:
                return []
            self._progress_seq, self._progress = event.seq, event.progress
            return [event]
        if event.seq > self._known_seq + 1:
            return None
        self._enter(event.status)
        self._known_seq = event.seq
        return [event]

    def as_recorded(self, job: Job) -> list[JobEvent]:
        """
        The news in the ledger's record.

        Of a change that was missed it knows status and time; attempt and error only of the last.
        """
        events = []
        now = status_event(job)
        for entry in job.history:
            is_old = entry.seq <= self._known_seq
            if self.is_over or is_old or (self._status is None and entry.round != job.round):
                continue
            if entry is job.history[-1] and entry.status is job.status:
                events.append(replace(now, seq=entry.seq))
            else:
                past = replace(now, seq=entry.seq, status=entry.status, at=entry.at)
                events.append(replace(past, attempt=0, error=None, due_at=None, why=None))
            self._enter(entry.status)
        if not self.is_over and self._status is not job.status:  # its history was cut
            events.append(now)
            self._enter(job.status)
        self._known_seq = max(self._known_seq, job.seq)
        is_running = self._status is Status.PROCESSING and job.seq > self._progress_seq
        if is_running and job.progress not in (None, self._progress):
            self._progress_seq, self._progress = job.seq, job.progress
            events.append(replace(now, kind="progress", progress=job.progress, error=None))
        return events

    def _enter(self, status: Status) -> None:
        """Each claim counts its progress anew."""
        self._status = status
        self._progress_seq, self._progress = -1, None
        self.is_over = status.is_terminal
