"""The consumer of several queues by strict preference: rank, then priority, then arrival."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol

import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.common import FieldTable

from api_shared.cancellation import cancel_and_wait
from api_shared.settings import Settings
from api_shared.transport.acks import Acks
from api_shared.transport.connection import CLOSE_S, closed
from api_shared.transport.errors import RabbitUnavailable, driver_errors
from api_shared.transport.pamqp_patches import UnreadableProperties
from api_shared.transport.topology import QueueSpec, depth

log = structlog.get_logger()

FULL_AFTER_S = 1.0
"""A worker that takes no delivery for this long requeues those that it has not started."""
HIGHER_WAIT_S = 0.05


class Settles(Protocol):
    """Settles deliveries by their tag. A second call for one tag has no effect."""

    def ack(self, tag: int) -> None: ...

    def requeue(self, tag: int) -> None: ...


@dataclass(order=True, slots=True)
class Delivery:
    """A message that this worker holds, and has neither acked nor requeued yet."""

    order: tuple[int, int, int]
    body: bytes = field(compare=False)
    queue: QueueSpec = field(compare=False)
    headers: FieldTable = field(compare=False)
    _tag: int = field(compare=False)
    _acks: Settles = field(compare=False)
    unreadable: str | None = field(compare=False, default=None)
    """Why its properties could not be decoded, if so."""

    @property
    def priority(self) -> int:
        return -self.order[1]

    def ack(self) -> None:
        self._acks.ack(self._tag)

    def requeue(self) -> None:
        self._acks.requeue(self._tag)


class Consumer:
    """
    Holds up to `prefetch` messages a queue and hands them out one by one through `next`.

    It consumes only while its deliveries are taken. If it is full for a second, paused or stopped,
    it cancels its consumers and requeues what it holds. `close` ends it for good.
    """

    def __init__(self, settings: Settings, queues: tuple[QueueSpec, ...]) -> None:
        self._prefetch = settings.worker_prefetch
        self.queues = queues
        self._stopped: set[str] = set()
        self._consuming = False
        self._channel: AbstractChannel | None = None
        self._acks: Acks | None = None
        self._tags: dict[str, str] = {}
        self._held: list[Delivery] = []
        self._arrivals = 0
        self._maybe_more = {queue.name: True for queue in queues}
        self._news = asyncio.Event()
        self._turning = asyncio.Lock()
        self._paused_until = 0.0
        self._holders = 0
        self._released = asyncio.Event()
        self._taken_at = monotonic()
        self._taking = False
        self._closed = False
        self._minder: asyncio.Task[None] | None = None

    @property
    def buffered(self) -> Counter[str]:
        """Messages held and not started, by queue."""
        return Counter(delivery.queue.name for delivery in self._held)

    def start(self) -> None:
        self._minder = asyncio.create_task(self._mind(), name="consumer-minder")

    async def use(self, channel: AbstractChannel) -> None:
        """
        Use a new channel. RabbitMQ has requeued the deliveries of the old one.

        Raises `RabbitUnavailable`.
        """
        async with self._turning:
            self._channel, self._acks = channel, Acks(channel)
            self._forget()
            with driver_errors():
                await channel.basic_qos(prefetch_count=self._prefetch)
            if self._may_consume():
                await self._subscribe(channel)
        self._news.set()

    async def next(self) -> Delivery:
        """Wait for the next message by preference."""
        self._taking = True
        try:
            while True:
                self._news.clear()  # first: what happens while it resumes is news
                await self._resume()
                if self._held and await self._none_above(self._held[0]):
                    return heapq.heappop(self._held)
                wait_s = HIGHER_WAIT_S if self._held else None
                try:
                    async with asyncio.timeout(wait_s):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            self._taking = False
            self._taken_at = monotonic()

    def put_back(self, delivery: Delivery) -> None:
        """Undo a `next`: the delivery is the next one again."""
        heapq.heappush(self._held, delivery)
        self._news.set()

    async def stop_queues(self, names: set[str]) -> None:
        """Stop consuming these queues, and requeue what is held of them."""
        self._stopped |= names
        async with self._turning:
            await self._unsubscribe(names)

    async def resume_queues(self, names: set[str]) -> None:
        self._stopped -= names
        async with self._turning:
            if self._consuming and self._channel is not None:
                try:
                    await self._subscribe(self._channel)
                except RabbitUnavailable as error:
                    self._channel_failed(error)

    def pause(self, seconds: float) -> None:
        """
        Consume nothing for a while (for example while the ledger is away), and requeue what is
        held.
        """
        self._paused_until = max(self._paused_until, monotonic() + seconds)
        self._news.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Consume nothing within this block, and requeue what is held."""
        self._holders += 1
        self._released.clear()
        self._news.set()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._released.set()

    async def close(self) -> None:
        """Stop consuming for good, and requeue what was not started."""
        self._closed = True
        if self._minder is not None:
            await cancel_and_wait(self._minder)
        async with self._turning:
            await self._unsubscribe()
        self._consuming = False

    async def settle(self) -> None:
        """Wait until all acks and requeues are written to the socket."""
        if self._acks is not None:
            await self._acks.drain()

    def _may_consume(self) -> bool:
        return not (self._closed or self._holders) and monotonic() >= self._paused_until

    async def _resume(self) -> None:
        while self._holders:
            await self._released.wait()
        # The pause may have become longer meanwhile.
        while (pause_s := self._paused_until - monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(pause_s)
        if self._consuming or self._channel is None:
            return
        async with self._turning:
            if not self._consuming and self._channel is not None and self._may_consume():
                try:
                    await self._subscribe(self._channel)
                except RabbitUnavailable as error:
                    self._channel_failed(error)

    def _channel_failed(self, error: BaseException) -> None:
        """Forget the channel. The connection opens another one."""
        log.debug("rabbitmq.channel_failed", error=str(error))
        self._channel = None
        self._forget()

    def _forget(self) -> None:
        self._tags.clear()
        self._held.clear()
        self._consuming = False

    async def _subscribe(self, channel: AbstractChannel) -> None:
        for queue in self.queues:
            if queue.name in self._tags or queue.name in self._stopped:
                continue
            self._maybe_more[queue.name] = True
            consume = partial(self._arrived, channel, queue)
            with driver_errors():
                answer = await channel.basic_consume(queue.name, consume)
            self._tags[queue.name] = str(answer.consumer_tag)
        self._consuming = True

    async def _unsubscribe(self, names: set[str] | None = None) -> None:
        """Cancel the consumers of these queues (None: all), and requeue what they delivered."""
        stopping = {queue.name for queue in self.queues} if names is None else names
        tags = [self._tags.pop(name) for name in stopping if name in self._tags]
        if names is None:
            self._consuming = False
        self._requeue_held(stopping)
        channel = self._channel
        if channel is None:
            return
        try:
            with driver_errors():
                async with asyncio.timeout(CLOSE_S):
                    for tag in tags:
                        await channel.basic_cancel(tag)
        except RabbitUnavailable as error:
            log.debug("rabbitmq.cancel_failed", error=str(error))
        self._requeue_held(stopping)
        await self.settle()

    def _requeue_held(self, names: set[str]) -> None:
        requeued = [delivery for delivery in self._held if delivery.queue.name in names]
        self._held = [delivery for delivery in self._held if delivery.queue.name not in names]
        heapq.heapify(self._held)
        for delivery in sorted(requeued, reverse=True):
            delivery.requeue()

    async def _arrived(
        self, channel: AbstractChannel, queue: QueueSpec, message: DeliveredMessage
    ) -> None:
        tag = getattr(message.delivery, "delivery_tag", None)
        if channel is not self._channel or self._acks is None or tag is None:
            return
        self._arrivals += 1
        self._maybe_more[queue.name] = True
        properties = message.header.properties
        order = (queue.rank, -min(properties.priority or 0, 255), self._arrivals)
        headers = dict(properties.headers or {})
        why = properties.why if isinstance(properties, UnreadableProperties) else None
        delivery = Delivery(order, message.body, queue, headers, tag, self._acks, why)
        self._acks.delivered(tag)
        heapq.heappush(self._held, delivery)
        self._news.set()

    async def _none_above(self, best: Delivery) -> bool:
        """
        Whether no queue of a better rank can hold a message.

        A queue that has delivered recently is asked once for its depth. Its deliveries come on the
        same channel before the answer, so 0 means that no delivery is on its way.
        """
        channel = self._channel
        for queue in self.queues:
            lower = queue.rank >= best.queue.rank or queue.name in self._stopped
            if lower or not self._maybe_more[queue.name]:
                continue
            if channel is None:
                return False
            arrivals = self._arrivals
            try:
                with driver_errors():
                    ready = await depth(channel, queue.name)
            except RabbitUnavailable:
                return False
            if arrivals != self._arrivals or not self._held or self._held[0] is not best:
                return False
            if ready:
                return False
            self._maybe_more[queue.name] = False
        return True

    async def _mind(self) -> None:
        """
        Requeue what is held while nothing is taken, and notice queues that stopped delivering.
        """
        while True:
            await asyncio.sleep(FULL_AFTER_S / 4)
            try:
                await self._requeue_if_idle()
                await self._notice_cancelled()
            except Exception:
                log.exception("consumer.minder_failed")

    async def _requeue_if_idle(self) -> None:
        full = not self._taking and monotonic() - self._taken_at > FULL_AFTER_S
        if self._consuming and (full or not self._may_consume()):
            log.info("consumer.stopped", why="full" if full else "paused")
            async with self._turning:
                await self._unsubscribe()
            self._news.set()  # a `next` that began meanwhile consumes again

    async def _notice_cancelled(self) -> None:
        """Close a channel whose consumers were cancelled; the connection opens another one."""
        channel = self._channel
        if self._tags and channel is not None and not self._still_consuming(channel):
            log.warning("consumer.cancelled_by_broker", queues=list(self._tags))
            async with self._turning:
                self._forget()
                await closed(channel)

    def _still_consuming(self, channel: AbstractChannel) -> bool:
        consumers = getattr(channel, "consumers", {})
        return all(tag in consumers for tag in self._tags.values())
