"""
The dispatcher, which acts on jobs whose `due_at` has passed because no other process did.

It runs in every worker process, without a leader: each step is a compare-and-set, so that ten
dispatchers together do the work of one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from random import Random
from time import monotonic

import structlog

from api_shared.backoff import backoff_s
from api_shared.client.runtime import Runtime
from api_shared.errors import LedgerUnavailable
from api_shared.job import Job, Status
from api_shared.ledger.change import Change
from api_shared.ledger.transitions import (
    begin_dead_lettering,
    publish_due,
    reroute,
    rescue,
)
from api_shared.notifier.events import status_event
from api_shared.transport.publisher import AmqpPublisher
from api_shared.worker.maintenance.dead_letters import DeadLetters
from api_shared.worker.maintenance.publishing import for_each, publish_or_later
from api_shared.worker.maintenance.republish import Republisher

log = structlog.get_logger()

BATCH = 200
SEPARATELY = ({Status.PROCESSING, Status.FAILED}, {Status.SCHEDULED, Status.RETRYING})
"""The statuses that are asked for separately, where queued jobs fill a batch."""


@dataclass(slots=True)
class Dispatcher:
    """
    Runs for ever in `run`. After the ledger was away, no claim is taken back for one lease, because
    their holders could not renew them either.
    """

    runtime: Runtime
    publisher: AmqpPublisher
    dead_letters: DeadLetters
    rng: Random
    held: Callable[[], Mapping[str, str]] = dict
    """The tokens of the claims that this process holds, by job."""
    _patient_until: float = 0.0
    _ledger_away: bool = False
    _separately_at: float = 0.0
    _republisher: Republisher = field(init=False)

    def __post_init__(self) -> None:
        self._republisher = Republisher(self.runtime, self.publisher, BATCH)

    async def run(self) -> None:
        settings = self.runtime.settings
        self._be_patient()
        while True:
            try:
                busy = await self.dispatch_once()
                if self._ledger_away:
                    self._ledger_away = False
                    log.info("dispatcher.ledger_back")
            except LedgerUnavailable as error:
                if not self._ledger_away:
                    log.warning("dispatcher.ledger_away", error=str(error))
                self._ledger_away, busy = True, False
                self._be_patient()
            except Exception:
                log.exception("dispatcher.failed")
                busy = False
            if not busy:
                await asyncio.sleep(settings.dispatch_every_s * self.rng.uniform(0.8, 1.2))

    async def dispatch_once(self) -> bool:
        """Act on the jobs that are due now. True: more may be due. Raises `LedgerUnavailable`."""
        asked = monotonic()
        jobs = await self._due()
        if self._ledger_away or monotonic() - asked > self.runtime.settings.heartbeat_s:
            self._be_patient()  # the ledger was away, or the driver waited: heartbeats did too
        by_status: dict[Status, list[Job]] = defaultdict(list)
        for job in jobs:
            if rerouted := await self._reroute(job):
                by_status[job.status].append(rerouted)
        lost = self._lost_of(by_status[Status.PROCESSING])
        due = [*by_status[Status.SCHEDULED], *by_status[Status.RETRYING]]
        failed = by_status[Status.FAILED]
        await for_each(lost, self._rescue)
        await for_each(due, self._publish_due)
        await for_each(failed, self._dead_letter)
        checked = await self._republisher.check(by_status[Status.QUEUED])
        return len(lost) + len(due) + len(failed) + checked >= BATCH // 2

    async def _due(self) -> Collection[Job]:
        """
        The jobs that have been due for the longest time.

        Queued jobs stay due while RabbitMQ does not report how long their queue is, and thousands
        of jobs may be scheduled for one moment. When such jobs fill a batch, the others are asked
        for separately, but not each time: the ledger has to read past the whole backlog.
        """
        broker = self.runtime.topology.broker
        jobs = await self.runtime.ledger.due(broker, limit=BATCH)
        if len(jobs) == BATCH and monotonic() >= self._separately_at:
            self._separately_at = monotonic() + self.runtime.settings.heartbeat_s
            for statuses in SEPARATELY:
                jobs += await self.runtime.ledger.due(broker, statuses=statuses, limit=BATCH)
        return {job.id: job for job in jobs}.values()

    async def _reroute(self, job: Job) -> Job | None:
        """
        The job, moved to the default queue if the settings do not name its queue any more.

        None: nothing is left to do, or another dispatcher was faster.
        """
        topology = self.runtime.topology
        if job.queue in (queue.name for queue in topology.queues):
            return job
        log.warning("job.moved", job_id=job.id, queue=job.queue, to=topology.default.name)
        moved = await self.runtime.ledger.change(reroute(job, queue=topology.default.name))
        if moved is not None and moved.status is Status.QUEUED:
            await self._republisher.republish(moved)
            return None
        return moved

    def _lost_of(self, expired: list[Job]) -> list[Job]:
        """
        The jobs to rescue, without those that run in this process: after the host was suspended,
        their heartbeat is only late.
        """
        if monotonic() < self._patient_until:
            return []
        held = self.held()
        return [job for job in expired if held.get(job.id, "") != job.token]

    def _be_patient(self) -> None:
        """Claims whose holders could not renew them get one lease to do so."""
        self._patient_until = monotonic() + self.runtime.settings.lease_s

    async def _publish_due(self, job: Job) -> None:
        after_s = self.runtime.settings.republish_after_s
        queued = await self._change(publish_due(job, republish_after_s=after_s))
        if queued is not None:
            await publish_or_later(queued, self.publisher)

    async def _rescue(self, job: Job) -> None:
        settings = self.runtime.settings
        change = rescue(
            job,
            max_lost=settings.task_max_lost,
            retry_in_s=backoff_s(job.lost, base_s=2, cap_s=60, rng=self.rng),
            republish_after_s=settings.republish_after_s,
            retention_s=settings.retention_s,
        )
        taken = await self._change(change)
        if taken is None:
            return
        log.warning(
            "job.taken_back", job_id=job.id, task=job.task, lost=taken.lost, status=taken.status
        )
        if taken.status is Status.QUEUED:
            await publish_or_later(taken, self.publisher)

    async def _dead_letter(self, job: Job) -> None:
        """One dispatcher at a time may dead-letter a job and call its `on_failure`."""
        again_in_s = self.dead_letters.again_in_s(job.task, self.runtime.settings.lease_s)
        change = begin_dead_lettering(job, again_in_s=again_in_s)
        ours = await self.runtime.ledger.change(change)
        if ours is not None:
            await self.dead_letters.dead_letter_job(ours)

    async def _change(self, change: Change) -> Job | None:
        """Change a job and publish its status; None: another dispatcher was faster."""
        job = await self.runtime.ledger.change(change)
        if job is not None:
            self.runtime.notifier.publish(status_event(job))
        return job
