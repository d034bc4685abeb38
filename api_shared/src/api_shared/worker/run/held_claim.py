"""A claim in the hands of its worker: what stops it, and the numbers of its writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic

import structlog

from api_shared.cancellation import cancel_and_wait
from api_shared.errors import ClaimLost, LedgerUnavailable
from api_shared.job import Job, Progress
from api_shared.ledger.operations import FencedWrite, SaveJournal, SaveProgress
from api_shared.ledger.protocol import Ledger
from api_shared.ledger.transitions import count_late_write
from api_shared.ledger.usage import added, checked_usage
from api_shared.notifier.events import progress_event
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.text_writer import TextWriter

log = structlog.get_logger()

PUBLISH_EVERY_S = 0.1
SAVE_EVERY_S = 1.0


class Stop(StrEnum):
    """The reason why a body has to stop."""

    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class RunningTask:
    """
    The asyncio task of a body and its limits, counted from its start.

    Those of a synchronous task are later than the limits of its process, which they surround.
    """

    task: asyncio.Task[str]
    soft_limit_s: float
    hard_limit_s: float
    started_at: float = field(default_factory=monotonic)

    @property
    def soft_limit_at(self) -> float:
        return self.started_at + self.soft_limit_s

    @property
    def hard_limit_at(self) -> float:
        return self.started_at + self.hard_limit_s


class HeldClaim:
    """
    The right to write one job, and the numbers of its writes.

    `stop` requests the task to end; the first reason counts. It has no effect once `settling`.
    `running` is set while the task runs, and stays set if the task does not stop.
    """

    def __init__(self, job: Job, token: str, ledger: Ledger, notifier: Notifier) -> None:
        self.job = job
        self.token = token
        self.journal = dict(job.journal)
        self.usage = dict(job.usage)
        self.text = TextWriter(job, notifier)
        self.settling = False
        self.running: RunningTask | None = None
        self.stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._ledger = ledger
        self._notifier = notifier
        self._seq = job.seq
        self._progress: Progress | None = None
        self._saved_at = 0.0
        self._reporter: asyncio.Task[None] | None = None

    @property
    def stop_reason(self) -> Stop | None:
        return self.stopped.result() if self.stopped.done() else None

    def stop(self, reason: Stop) -> None:
        if not self.settling and not self.stopped.done():
            self.stopped.set_result(reason)

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def report(self, progress: Progress) -> None:
        """Notify listeners and the ledger soon. Only the latest progress counts."""
        self._progress = progress
        if self._reporter is None and not self.settling:
            self._reporter = asyncio.create_task(self._report())

    async def record(self, key: str, value_json: str, usage: Mapping[str, int]) -> None:
        """Write to the journal durably, and add `usage` in the same write. Raises `ClaimLost`."""
        used = checked_usage(usage, self.usage)
        self.usage = added(self.usage, used)
        write = SaveJournal(self.job.id, self.token, self.next_seq(), key, value_json, used)
        if not await self._ledger.apply(write):
            self.stop(Stop.LOST)
            await self.was_late(write)
            raise ClaimLost(self.job.id)
        self.journal[key] = value_json

    async def settle(self) -> int:
        """End progress and text, and return the number of the write that ends the claim."""
        self.settling = True
        await self.text.close()
        if self._reporter is not None:
            await cancel_and_wait(self._reporter)
        if self._progress is not None:
            self._publish(self._progress, self.next_seq())
        return self.next_seq()

    async def was_late(self, write: FencedWrite) -> None:
        """Record that a write was refused because the claim is lost; `kiq verify` counts it."""
        log.warning("write.refused", job_id=self.job.id, write=type(write).__name__)
        try:
            await self._ledger.change(count_late_write(self.job.id))
        except LedgerUnavailable as error:
            log.warning("write.refusal_not_counted", job_id=self.job.id, error=str(error))

    async def _report(self) -> None:
        """
        Publish the latest progress ten times a second, and save it once a second, until none is
        new.
        """
        unsaved: tuple[int, Progress] | None = None
        while self._progress is not None or unsaved is not None:
            progress, self._progress = self._progress, None
            if progress is not None:
                unsaved = (self.next_seq(), progress)
                self._publish(progress, unsaved[0])
            if unsaved is not None and monotonic() - self._saved_at >= SAVE_EVERY_S:
                write = SaveProgress(self.job.id, self.token, *unsaved)
                self._saved_at, unsaved = monotonic(), None
                if not await self._ledger.apply(write):
                    self.stop(Stop.LOST)
                    await self.was_late(write)
            await asyncio.sleep(PUBLISH_EVERY_S)
        self._reporter = None

    def _publish(self, progress: Progress, seq: int) -> None:
        self._notifier.publish(progress_event(self.job, progress, seq=seq))


running_claim: ContextVar[HeldClaim | None] = ContextVar("running_claim", default=None)
"""The claim whose body is running; the tasks and callbacks of the body have it too."""
