"""Reading dead-letter queues: each message is held, not taken, until the reader goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelClosed
from pamqp.commands import Basic

from api_shared.client.dead_letters.dead_letter import DeadMessage
from api_shared.errors import ServerError
from api_shared.transport.connection import Connection
from api_shared.transport.errors import driver_errors
from api_shared.transport.topology import QueueSpec, depth

ANSWER_S = 10.0


class RequeueRefused(ServerError):
    """RabbitMQ does not let this user read a dead-letter queue."""

    def __init__(self, queue: str, reason: object) -> None:
        self.queue = queue
        super().__init__(f"RabbitMQ (RABBITMQ_URL) refuses to read {queue!r}: {reason}")


class DeadLetterReader:
    """
    The dead letters of some queues, for one reader.

    What `walk` has yielded is hidden from others until the reader is closed; then each message is
    at its old place again, but for those that were removed. Raises `RabbitUnavailable` and
    `RequeueRefused`.
    """

    def __init__(self, channel: AbstractChannel, queues: Sequence[QueueSpec]) -> None:
        self._channel = channel
        self._queues = queues

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: Connection, queues: Sequence[QueueSpec]
    ) -> AsyncIterator[DeadLetterReader]:
        async with connection.side_channel() as channel:
            yield cls(channel, queues)

    async def count(self) -> int:
        """How many lie there, but for those that somebody holds."""
        return sum([await self._depth(queue) for queue in self._queues])

    async def walk(self) -> AsyncIterator[DeadMessage]:
        """
        Those that lie there now, queue by queue, the oldest first.

        What is buried meanwhile is not waited for, so that it ends while workers bury on.
        """
        for queue in self._queues:
            for _ in range(await self._depth(queue)):
                message = await self._next(queue)
                if message is None:
                    break
                yield message

    async def remove(self, message: DeadMessage) -> None:
        """For good, when the pile is closed at the latest."""
        with driver_errors():
            await self._channel.basic_ack(message.tag)

    async def _depth(self, queue: QueueSpec) -> int:
        with _refusal_of(queue):
            return await depth(self._channel, queue.dead_letter_queue) or 0

    async def _next(self, queue: QueueSpec) -> DeadMessage | None:
        with _refusal_of(queue):
            got = await self._channel.basic_get(queue.dead_letter_queue, timeout=ANSWER_S)
        return _as_dead(got, queue)


@contextmanager
def _refusal_of(queue: QueueSpec) -> Iterator[None]:
    """Raises `RequeueRefused` and `RabbitUnavailable`."""
    with driver_errors():
        try:
            yield
        except ChannelClosed as error:
            raise RequeueRefused(queue.dead_letter_queue, error) from None


def _as_dead(got: DeliveredMessage, queue: QueueSpec) -> DeadMessage | None:
    """None: the queue was empty."""
    if not isinstance(got.delivery, Basic.GetOk) or got.delivery.delivery_tag is None:
        return None
    properties = got.header.properties
    return DeadMessage(
        queue=queue,
        body=got.body,
        headers=dict(properties.headers or {}),
        priority=properties.priority or 0,
        buried_at=properties.timestamp,
        tag=got.delivery.delivery_tag,
    )
