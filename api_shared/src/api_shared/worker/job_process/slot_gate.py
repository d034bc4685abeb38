"""The gate before synchronous tasks: each needs one of the host's CPU slots to start."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.message import JobMessage
from api_shared.worker.job_process import Slot, SlotFolder

log = structlog.get_logger()

PATIENCE_S = 1.0
"""How long deliveries may wait here for a slot before RabbitMQ gets them back."""


class SlotGate:
    """
    Holds deliveries of synchronous tasks until a slot is free.

    A delivery that waits longer than a second is given back, with all of its queue, and the queue
    is not consumed until this process holds a slot to run its next message in.
    """

    def __init__(self, slots: SlotFolder, consumer: Consumer) -> None:
        self._slots = slots
        self._consumer = consumer
        self._waiting: deque[tuple[Delivery, JobMessage]] = deque()
        self._reserved: Slot | None = None
        self._server: asyncio.Task[None] | None = None
        self.ready: asyncio.Queue[tuple[Delivery, JobMessage, Slot]] = asyncio.Queue()

    @property
    def idle(self) -> bool:
        """Nothing waits here and nothing is about to come out."""
        return not self._waiting and self.ready.empty()

    def slot_now(self) -> Slot | None:
        """A slot if one is free at this moment; those who wait longer have it first."""
        if self._waiting:
            return None
        if self._reserved is not None:
            slot, self._reserved = self._reserved, None
            return slot
        return self._slots.try_acquire()

    def wait(self, delivery: Delivery, wire: JobMessage) -> None:
        """Put a delivery aside; it comes back through `ready`, or goes back to RabbitMQ."""
        self._waiting.append((delivery, wire))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="slot-gate")

    async def close(self) -> None:
        if self._server is not None:
            self._server.cancel()
            await asyncio.gather(self._server, return_exceptions=True)
        self._give_back()
        while not self.ready.empty():
            delivery, _, slot = self.ready.get_nowait()
            delivery.requeue()
            slot.release()
        if self._reserved is not None:
            self._reserved.release()
            self._reserved = None

    async def _serve(self) -> None:
        while self._waiting:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    slot = await self._slots.acquire()
            except TimeoutError:
                await self._after_patience()
                continue  # one may have come meanwhile
            if not self._waiting:
                slot.release()
                return
            self.ready.put_nowait((*self._waiting.popleft(), slot))

    async def _after_patience(self) -> None:
        """Stop consuming the queues of what waits, get a slot, and consume again."""
        queues = {delivery.queue.name for delivery, _ in self._waiting}
        self._give_back()
        try:
            slot = await self._slot_without(queues)
            if self._waiting:
                self.ready.put_nowait((*self._waiting.popleft(), slot))
                await self._consumer.resume_queues(queues)
            else:
                await self._keep_for(queues, slot)
        except Exception:  # whatever it was, a queue that nobody consumes would be worse
            log.exception("slots.gate_failed", queues=sorted(queues))
            await self._consumer.resume_queues(queues)

    async def _slot_without(self, queues: set[str]) -> Slot:
        """A slot, while these queues are not consumed."""
        await self._consumer.stop_queues(queues)
        log.info("slots.full", queues=sorted(queues))
        return await self._slots.acquire()

    async def _keep_for(self, queues: set[str], slot: Slot) -> None:
        """Consume these queues again, with the slot for the first that comes in time."""
        self._reserved = slot
        try:
            await self._consumer.resume_queues(queues)
            await asyncio.sleep(PATIENCE_S)
        finally:
            if self._reserved is slot:
                self._reserved = None
                slot.release()

    def _give_back(self) -> None:
        while self._waiting:
            self._waiting.pop()[0].requeue()
