"""
The events of a job: live from the notifier, and complete from the ledger.

Redis is fast but may lose an event. The ledger never does, and is read rarely.
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

    The latest progress comes between them. The ledger is read at the start, every `reread_s`, when
    an event shows that another was missed, and after a lost connection. While the ledger is away,
    it is read again later. Raises `InvalidJobId`, `JobNotFound`, and `LedgerUnavailable` from the
    first read only.
    """
    job_id = parse_job_id(job_id)
    clock = asyncio.get_running_loop().time
    async with notifier.subscribe(job_id=job_id) as subscription:
        state = _WatchState()
        events: list[JobEvent] | None = state.on_record(await _read(job_id, ledger))
        reread_at = clock() + reread_s
        while True:
            for event in events or ():
                yield event
            if state.has_ended:
                return
            received = await subscription.next(max(0.0, reread_at - clock()))
            events = None if received is None else state.on_event(received)
            if events is None or clock() >= reread_at:
                reread_at = clock() + reread_s
                with suppress(LedgerUnavailable):
                    record = await _read(job_id, ledger)
                    events = (events or []) + state.on_record(record)


async def _read(job_id: str, ledger: Ledger) -> Job:
    job = await ledger.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


class _WatchState:
    """
    The events that the watcher has received, by `seq`.

    The writes of a job, its progress included, are numbered without gaps, but not each of them is
    an event. So a change that follows the last known number is yielded at once, and after a gap the
    record must be read. All changes of status up to `_known_seq` have been yielded.

    Progress is published more often than it is written, and writes after a lost claim use its
    numbers again. So an event of progress proves nothing about what the ledger holds.
    """

    def __init__(self) -> None:
        self.has_ended = False
        self._known_seq = -1
        self._status: Status | None = None
        self._progress_seq = -1
        self._progress: Progress | None = None

    def on_event(self, event: JobEvent) -> list[JobEvent] | None:
        """What to yield of `event`. None: an event before it was missed."""
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

    def on_record(self, job: Job) -> list[JobEvent]:
        """
        The events that the record shows and that were not yielded yet.

        Of each change the record holds status and time; attempt and error only of the last.
        """
        events = []
        now = status_event(job)
        for entry in job.history:
            is_old = entry.seq <= self._known_seq
            if self.has_ended or is_old or (self._status is None and entry.round != job.round):
                continue
            if entry is job.history[-1] and entry.status is job.status:
                events.append(replace(now, seq=entry.seq))
            else:
                past = replace(now, seq=entry.seq, status=entry.status, at=entry.at)
                events.append(replace(past, attempt=0, error=None, due_at=None, why=None))
            self._enter(entry.status)
        if not self.has_ended and self._status is not job.status:  # its history was cut
            events.append(now)
            self._enter(job.status)
        self._known_seq = max(self._known_seq, job.seq)
        is_running = self._status is Status.PROCESSING and job.seq > self._progress_seq
        if is_running and job.progress not in (None, self._progress):
            self._progress_seq, self._progress = job.seq, job.progress
            events.append(replace(now, kind="progress", progress=job.progress, error=None))
        return events

    def _enter(self, status: Status) -> None:
        """Note a change of status. Each claim begins its progress again."""
        self._status = status
        self._progress_seq, self._progress = -1, None
        self.has_ended = status.is_terminal
