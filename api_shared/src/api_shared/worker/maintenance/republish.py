"""Republishing of queued jobs whose messages RabbitMQ has lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from api_shared.client.runtime import Runtime
from api_shared.errors import QueueMismatch
from api_shared.job import Job
from api_shared.ledger.transitions import defer_check
from api_shared.transport.errors import RabbitUnavailable, driver_errors
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import declare, depth
from api_shared.worker.maintenance.publishing import for_each, publish_or_later

log = structlog.get_logger()

LOOK_CAP_S = 600.0
"""The longest time between two checks of a job that waits in a long queue."""
SETTLED_S = 5.0
"""A queued job younger than this may still be on its way to its queue."""


@dataclass(slots=True)
class Republisher:
    """
    Compares each queue with the ledger. After the connection was opened again, RabbitMQ may have
    lost messages of any queue, and all are checked at once.
    """

    runtime: Runtime
    publisher: AmqpPublisher
    most: int
    """How many jobs of a queue are republished at a time."""
    _opened_seen: int = field(init=False)
    _suspect: set[str] = field(default_factory=set)
    """Queues that may lack messages, until each has as many as it should."""

    def __post_init__(self) -> None:
        self._opened_seen = self.publisher.connection.opened

    async def check(self, overdue: Sequence[Job]) -> int:
        """
        Republish the queued jobs that no worker took and whose queue lacks messages. The others
        are checked again later. Returns how many jobs were checked.

        A queue that holds as many messages as the ledger has queued jobs is only long.
        """
        checked = 0
        by_queue: dict[str, list[Job]] = defaultdict(list)
        for job in overdue:
            by_queue[job.queue].append(job)
        reopened = self.publisher.connection.opened != self._opened_seen
        if reopened:
            self._opened_seen = self.publisher.connection.opened
            self._suspect = {queue.name for queue in self.runtime.topology.queues}
        for queue in self._suspect:
            by_queue.setdefault(queue, [])
        for name, jobs in by_queue.items():
            missing = await self._missing(name)
            if missing is None:
                continue
            checked += len(jobs)
            candidates = jobs
            if missing <= len(jobs):
                self._suspect.discard(name)
            elif name in self._suspect:
                more = await self._long_queued(name, missing - len(jobs), any_age=reopened)
                candidates = [*jobs, *(job for job in more if job not in jobs)]
            await for_each(candidates[:missing], self.republish)
            await for_each(candidates[missing:], self._check_later)
        return checked

    async def republish(self, job: Job) -> None:
        """Publish a job's message again, unless somebody else does or a worker has taken it."""
        after_s = self.runtime.settings.republish_after_s
        if ours := await self.runtime.ledger.change(defer_check(job, in_s=after_s)):
            await publish_or_later(ours, self.publisher)
            log.warning("job.republished", job_id=job.id, task=job.task, queue=job.queue)

    async def _check_later(self, job: Job) -> None:
        after_s = self.runtime.settings.republish_after_s
        wait_s = min(after_s * 2.0 ** min(job.looks + 1, 20), LOOK_CAP_S)
        await self.runtime.ledger.change(defer_check(job, in_s=max(wait_s, after_s)))

    async def _missing(self, queue: str) -> int | None:
        """How many messages a queue lacks. None: RabbitMQ does not answer now."""
        broker = self.runtime.topology.broker
        ready = await self._depth(queue)
        if ready is None:
            return None
        workers = await self.runtime.ledger.workers()
        held = sum(worker.buffered.get(queue, 0) for worker in workers if worker.broker == broker)
        queued = await self.runtime.ledger.queued(broker, queue, older_than_s=SETTLED_S)
        return max(0, queued - ready - held)

    async def _depth(self, queue: str) -> int | None:
        """The number of ready messages of a queue. A deleted queue is declared again: 0."""
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
        Jobs that would be checked only later, without those that were just published. With
        `any_age` these are included: after RabbitMQ came back, their messages may be lost too.
        """
        return await self.runtime.ledger.oldest_queued(
            self.runtime.topology.broker,
            queue,
            limit=min(limit, self.most),
            older_than_s=SETTLED_S,
            not_due_within_s=None if any_age else self.runtime.settings.republish_after_s,
        )
