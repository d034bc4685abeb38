"""The gate of synchronous tasks, each of which needs one of the host's CPU slots to start."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from api_shared.cancellation import cancel_and_wait
from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.message import JobMessage
from api_shared.worker.job_process import Slot, SlotFolder

log = structlog.get_logger()

PATIENCE_S = 1.0
"""How long deliveries may wait for a slot before they are requeued."""


class SlotGate:
    """
    Holds deliveries of synchronous tasks until a slot is free.

    A delivery that waits longer than a second is requeued, with all others of its queue. The queue
    is not consumed until this process holds a slot for its next message.
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
        """Whether no delivery waits for a slot, and none has got one."""
        return not self._waiting and self.ready.empty()

    def slot_now(self) -> Slot | None:
        """A slot if one is free at this moment and no delivery waits for it."""
        if self._waiting:
            return None
        if self._reserved is not None:
            slot, self._reserved = self._reserved, None
            return slot
        return self._slots.try_acquire()

    def wait(self, delivery: Delivery, message: JobMessage) -> None:
        """Let a delivery wait: it comes out of `ready`, or is requeued."""
        self._waiting.append((delivery, message))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="slot-gate")

    async def close(self) -> None:
        if self._server is not None:
            await cancel_and_wait(self._server)
        self._requeue_waiting()
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
                continue  # another may have come meanwhile
            if not self._waiting:
                slot.release()
                return
            self.ready.put_nowait((*self._waiting.popleft(), slot))

    async def _after_patience(self) -> None:
        """Stop consuming the queues of the waiting deliveries, get a slot, and consume again."""
        queues = {delivery.queue.name for delivery, _ in self._waiting}
        self._requeue_waiting()
        try:
            slot = await self._slot_without(queues)
            if self._waiting:
                self.ready.put_nowait((*self._waiting.popleft(), slot))
                await self._consumer.resume_queues(queues)
            else:
                await self._keep_for(queues, slot)
        except Exception:  # a queue that is never consumed again would be worse
            log.exception("slots.gate_failed", queues=sorted(queues))
            await self._consumer.resume_queues(queues)

    async def _slot_without(self, queues: set[str]) -> Slot:
        """A slot, while these queues are not consumed."""
        await self._consumer.stop_queues(queues)
        log.info("slots.full", queues=sorted(queues))
        return await self._slots.acquire()

    async def _keep_for(self, queues: set[str], slot: Slot) -> None:
        """
        Consume these queues again, and keep the slot for the first delivery that comes in time.
        """
        self._reserved = slot
        try:
            await self._consumer.resume_queues(queues)
            await asyncio.sleep(PATIENCE_S)
        finally:
            if self._reserved is slot:
                self._reserved = None
                slot.release()

    def _requeue_waiting(self) -> None:
        while self._waiting:
            self._waiting.pop()[0].requeue()
