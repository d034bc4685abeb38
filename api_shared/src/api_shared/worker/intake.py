"""The intake of a worker, from a delivery to a job that may start now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from api_shared.client.bind.task import JobTask
from api_shared.errors import LedgerUnavailable
from api_shared.job import JobError, Reason, Status
from api_shared.ledger.transitions import fail_queued
from api_shared.notifier.events import status_event
from api_shared.settings import MOST_ARGUMENTS_BYTES
from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.message import ACCEPTED, JobMessage, Unreadable, decode
from api_shared.worker.job_process import Slot
from api_shared.worker.job_process.slot_gate import SlotGate
from api_shared.worker.run.claim import LEDGER_PAUSE_S
from api_shared.worker.run.worker_runtime import WorkerRuntime

MESSAGE_OVERHEAD_BYTES = 128 * 1024
"""The largest size of a message without its job's arguments."""


class Intake:
    """
    Reads deliveries. It dead-letters those that are no job of this worker, and waits for a CPU slot
    if a job needs one.
    """

    def __init__(
        self,
        consumer: Consumer,
        gate: SlotGate,
        tasks: Mapping[str, JobTask[Any, Any]],
        worker: WorkerRuntime,
    ) -> None:
        self._consumer = consumer
        self._gate = gate
        self._tasks = tasks
        self._worker = worker

    async def next(self) -> tuple[Delivery, JobMessage, Slot | None]:
        """The next delivery that is a job of this worker and may start now."""
        while True:
            taken = await self._either()
            if not isinstance(taken, Delivery):
                return taken
            if taken.unreadable is not None:
                detail = f"its properties cannot be decoded: {taken.unreadable}"
                await self._worker.dead_letter(taken, Reason.UNREADABLE, detail)
                continue
            try:
                message = decode(taken.body, max_bytes=self._size_limit(taken))
            except Unreadable as error:
                await self._worker.dead_letter(taken, error.reason, str(error))
                continue
            task = self._tasks.get(message.task)
            if task is None:
                await self._dead_letter_unknown(taken, message)
                continue
            if task.bound.is_async:
                return taken, message, None
            slot = self._gate.slot_now()
            if slot is not None:
                return taken, message, slot
            self._gate.wait(taken, message)

    def _size_limit(self, delivery: Delivery) -> int:
        """
        The limit for this message. What a kiq accepted is read, whatever the service's own limit
        was.
        """
        limit = self._worker.settings.max_arguments_bytes
        if delivery.headers.get(ACCEPTED):
            limit = MOST_ARGUMENTS_BYTES
        return limit + MESSAGE_OVERHEAD_BYTES

    async def _either(self) -> Delivery | tuple[Delivery, JobMessage, Slot]:
        """A new delivery, or one that has got its CPU slot."""
        if self._gate.idle:
            return await self._consumer.next()
        fresh = asyncio.ensure_future(self._consumer.next())
        served = asyncio.ensure_future(self._gate.ready.get())
        try:
            await asyncio.wait({fresh, served}, return_when=asyncio.FIRST_COMPLETED)
            if not served.done():
                return fresh.result()
            if fresh.done():
                self._consumer.put_back(fresh.result())
            return served.result()
        except asyncio.CancelledError:  # a stop: a delivery of this moment is requeued too
            if fresh.done():
                self._consumer.put_back(fresh.result())
            if served.done():
                self._gate.ready.put_nowait(served.result())
            raise
        finally:
            for waiter in (fresh, served):
                waiter.cancel()

    async def _dead_letter_unknown(self, delivery: Delivery, message: JobMessage) -> None:
        """Dead-letter a message of a task that this worker does not have; its job fails."""
        known = ", ".join(sorted(self._tasks)) or "none"
        detail = f"no task named {message.task!r} in this worker; known: {known}"
        error = JobError(Reason.UNKNOWN_TASK, "UnknownTask", detail)
        ledger = self._worker.ledger
        try:
            job = await ledger.get(message.job_id)
            if job is not None and job.status is Status.QUEUED and job.task == message.task:
                failed = await ledger.change(fail_queued(job, error))
                if failed is not None:  # due now: the dispatcher dead-letters it
                    self._worker.notifier.publish(status_event(failed))
                    delivery.ack()
                    return
        except LedgerUnavailable:
            delivery.requeue()
            self._consumer.pause(LEDGER_PAUSE_S)
            return
        await self._worker.dead_letter(delivery, Reason.UNKNOWN_TASK, detail)
