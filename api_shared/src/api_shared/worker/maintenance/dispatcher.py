"""
The dispatcher: acts on jobs whose `due_at` has passed, because nobody else did.

It runs in every worker process, without a leader: each step is a compare-and-set, so ten of them
do the work of one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from time import monotonic

import structlog

from api_shared.backoff import backoff_s
from api_shared.client.runtime import Runtime
from api_shared.errors import LedgerUnavailable, QueueMismatch, Unroutable
from api_shared.job import Job, Status
from api_shared.ledger.change import Change
from api_shared.ledger.transitions import (
    begin_dead_lettering,
    defer_check,
    publish_due,
    reroute,
    rescue,
)
from api_shared.notifier.events import status_event
from api_shared.transport.errors import RabbitUnavailable, driver_errors
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import declare, depth
from api_shared.worker.maintenance.dead_letters import DeadLetters

log = structlog.get_logger()

BATCH = 200
APART = ({Status.PROCESSING, Status.FAILED}, {Status.SCHEDULED, Status.RETRYING})
SIDE_BY_SIDE = 20
LOOK_CAP_S = 600.0
SETTLED_S = 5.0
"""A queued job younger than this may still be on its way to its queue."""


@dataclass(slots=True)
class Dispatcher:
    """
    `run` for ever. `publisher.connection` reopening, and the ledger coming back, are noticed here:
    after either, queued jobs are looked after at once, and claims left alone for one lease.
    """

    runtime: Runtime
    publisher: AmqpPublisher
    dead_letters: DeadLetters
    rng: Random
    held: Callable[[], Mapping[str, str]] = dict
    """The tokens of the claims that this process holds, by job."""
    _patient_until: float = 0.0
    _opened_seen: int = 0
    _ledger_away: bool = False
    _apart_at: float = 0.0
    _refilled: set[str] = field(default_factory=set)
    """Queues that RabbitMQ may have lost messages of, until each has as many as it should."""

    async def run(self) -> None:
        settings = self.runtime.settings
        self._be_patient()
        self._opened_seen = self.publisher.connection.opened
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
        """Act on what is due now; True when there may be more. Raises `LedgerUnavailable`."""
        asked = monotonic()
        jobs = await self._due()
        if self._ledger_away or monotonic() - asked > self.runtime.settings.heartbeat_s:
            self._be_patient()  # the ledger was away, or the driver waited: heartbeats did too
        by_status: dict[Status, list[Job]] = defaultdict(list)
        for job in jobs:
            if at_home := await self._at_home(job):
                by_status[job.status].append(at_home)
        lost = self._lost_of(by_status[Status.PROCESSING])
        due = [*by_status[Status.SCHEDULED], *by_status[Status.RETRYING]]
        failed = by_status[Status.FAILED]
        await _side_by_side(self._take_back, lost)
        await _side_by_side(self._publish_due, due)
        await _side_by_side(self._bury, failed)
        looked_after = await self._look_after(by_status[Status.QUEUED])
        return len(lost) + len(due) + len(failed) + looked_after >= BATCH // 2

    async def _due(self) -> Collection[Job]:
        """
        The longest overdue. Where they fill a batch (queued ones stay due while RabbitMQ cannot
        tell of their queue, thousands may be scheduled for one moment), the others are asked for
        apart, now and then: the ledger reads past the whole backlog then.
        """
        broker = self.runtime.topology.broker
        jobs = await self.runtime.ledger.due(broker, limit=BATCH)
        if len(jobs) == BATCH and monotonic() >= self._apart_at:
            self._apart_at = monotonic() + self.runtime.settings.heartbeat_s
            for statuses in APART:
                jobs += await self.runtime.ledger.due(broker, statuses=statuses, limit=BATCH)
        return {job.id: job for job in jobs}.values()

    async def _at_home(self, job: Job) -> Job | None:
        """
        A job whose queue the settings name no more goes to the default one: nobody would publish
        it to its own. None: that was all, or another one was faster.
        """
        topology = self.runtime.topology
        if job.queue in (queue.name for queue in topology.queues):
            return job
        log.warning("job.moved", job_id=job.id, queue=job.queue, to=topology.default.name)
        moved = await self.runtime.ledger.change(reroute(job, queue=topology.default.name))
        if moved is not None and moved.status is Status.QUEUED:
            await self._publish_again(moved)
            return None
        return moved

    def _lost_of(self, expired: list[Job]) -> list[Job]:
        """
        Those to be taken back. None that runs here: after the host was suspended, its heartbeat is
        only late, and speaks first.
        """
        if monotonic() < self._patient_until:
            return []
        held = self.held()
        return [job for job in expired if held.get(job.id, "") != job.token]

    def _be_patient(self) -> None:
        """ClaimRegistry whose holders could not renew them either get one lease to do so."""
        self._patient_until = monotonic() + self.runtime.settings.lease_s

    async def _publish_due(self, job: Job) -> None:
        after_s = self.runtime.settings.republish_after_s
        queued = await self._change(publish_due(job, republish_after_s=after_s))
        if queued is not None:
            await self._publish(queued)

    async def _take_back(self, job: Job) -> None:
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
            await self._publish(taken)

    async def _bury(self, job: Job) -> None:
        """One dispatcher at a time has the right to tell of a failure."""
        again_in_s = self.dead_letters.again_in_s(job.task, self.runtime.settings.lease_s)
        change = begin_dead_lettering(job, again_in_s=again_in_s)
        ours = await self.runtime.ledger.change(change)
        if ours is not None:
            await self.dead_letters.dead_letter_job(ours)

    async def _look_after(self, overdue: list[Job]) -> int:
        """
        Queued jobs that no worker took: published again, where the queue has lost messages. How
        many are looked after.

        A queue that holds as many messages as the ledger has queued jobs is only long.
        """
        looked_after = 0
        by_queue: dict[str, list[Job]] = defaultdict(list)
        for job in overdue:
            by_queue[job.queue].append(job)
        reopened = self.publisher.connection.opened != self._opened_seen
        if reopened:
            self._opened_seen = self.publisher.connection.opened
            self._refilled = {queue.name for queue in self.runtime.topology.queues}
        for queue in self._refilled:
            by_queue.setdefault(queue, [])
        for name, jobs in by_queue.items():
            missing = await self._missing(name)
            if missing is None:
                continue
            looked_after += len(jobs)
            candidates = jobs
            if missing <= len(jobs):
                self._refilled.discard(name)
            elif name in self._refilled:
                more = await self._long_queued(name, missing - len(jobs), any_age=reopened)
                candidates = [*jobs, *(job for job in more if job not in jobs)]
            await _side_by_side(self._publish_again, candidates[:missing])
            await _side_by_side(self._leave_waiting, candidates[missing:])
        return looked_after

    async def _publish_again(self, job: Job) -> None:
        if again := await self._look(job, first=True):
            await self._publish(again)
            log.warning("job.republished", job_id=job.id, task=job.task, queue=job.queue)

    async def _leave_waiting(self, job: Job) -> None:
        await self._look(job, first=False)

    async def _look(self, job: Job, *, first: bool) -> Job | None:
        after_s = self.runtime.settings.republish_after_s
        wait_s = after_s if first else min(after_s * 2.0 ** min(job.looks + 1, 20), LOOK_CAP_S)
        return await self.runtime.ledger.change(defer_check(job, in_s=max(wait_s, after_s)))

    async def _missing(self, queue: str) -> int | None:
        """How many messages a queue has too few; None: RabbitMQ cannot be asked now."""
        broker = self.runtime.topology.broker
        ready = await self._depth(queue)
        if ready is None:
            return None
        workers = await self.runtime.ledger.workers()
        held = sum(worker.buffered.get(queue, 0) for worker in workers if worker.broker == broker)
        queued = await self.runtime.ledger.queued(broker, queue, older_than_s=SETTLED_S)
        return max(0, queued - ready - held)

    async def _depth(self, queue: str) -> int | None:
        """Ready messages of a queue; one that somebody deleted is declared again and holds none."""
        connection = self.publisher.connection
        try:
            with driver_errors():
                async with asyncio.timeout(self.runtime.settings.connect_deadline_s):
                    async with connection.side_channel() as channel:
                        ready = await depth(channel, queue)
                    if ready is not None:
                        return ready
                    async with connection.side_channel() as channel:
                        await declare(channel, self.runtime.topology)
            log.warning("queue.declared_again", queue=queue)
            return 0
        except (RabbitUnavailable, QueueMismatch) as error:
            log.debug("queue.depth_unknown", queue=queue, error=str(error))
            return None

    async def _long_queued(self, queue: str, limit: int, *, any_age: bool) -> list[Job]:
        """
        Jobs that would be looked after only later; what was just published is not among them,
        unless `any_age`: right after RabbitMQ came back that says nothing.
        """
        return await self.runtime.ledger.oldest_queued(
            self.runtime.topology.broker,
            queue,
            limit=min(limit, BATCH),
            older_than_s=SETTLED_S,
            not_due_within_s=None if any_age else self.runtime.settings.republish_after_s,
        )

    async def _change(self, change: Change) -> Job | None:
        """Change a job and tell listeners; None: another one was faster."""
        job = await self.runtime.ledger.change(change)
        if job is not None:
            self.runtime.notifier.publish(status_event(job))
        return job

    async def _publish(self, job: Job) -> None:
        try:
            await self.publisher.publish_job(job)
        except (RabbitUnavailable, Unroutable) as error:
            log.info("publish.later", job_id=job.id, error=str(error))


async def _side_by_side(act: Callable[[Job], Awaitable[None]], jobs: Sequence[Job]) -> None:
    """The ledger waits for its disk once for many. Raises the first error when all have ended."""
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(job: Job) -> None:
        async with gate:
            await act(job)

    for ended in await asyncio.gather(*map(one, jobs), return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
