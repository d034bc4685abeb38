"""A reader of dead-letter queues, which holds each message without removing it."""

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


class ReadRefused(ServerError):
    """RabbitMQ does not allow this user to read a dead-letter queue."""

    def __init__(self, queue: str, reason: object) -> None:
        self.queue = queue
        super().__init__(f"RabbitMQ (RABBITMQ_URL) refuses to read {queue!r}: {reason}")


class DeadLetterReader:
    """
    The dead letters of some queues, for one reader.

    The messages that `walk` has yielded are hidden from others until the reader is closed. Then
    each is at its old place again, except those that were removed. Raises `RabbitUnavailable` and
    `ReadRefused`.
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
        """How many messages the queues hold, without those that another reader holds."""
        return sum([await self._depth(queue) for queue in self._queues])

    async def walk(self) -> AsyncIterator[DeadMessage]:
        """
        The messages that the queues hold now, queue by queue, the oldest first.

        Messages that are dead-lettered meanwhile are not waited for, so that the walk ends.
        """
        for queue in self._queues:
            for _ in range(await self._depth(queue)):
                message = await self._next(queue)
                if message is None:
                    break
                yield message

    async def remove(self, message: DeadMessage) -> None:
        """Remove a message for good, when the reader is closed at the latest."""
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
    """Raises `ReadRefused` and `RabbitUnavailable`."""
    with driver_errors():
        try:
            yield
        except ChannelClosed as error:
            raise ReadRefused(queue.dead_letter_queue, error) from None


def _as_dead(got: DeliveredMessage, queue: QueueSpec) -> DeadMessage | None:
    """The message of RabbitMQ's answer. None: the queue was empty."""
    if not isinstance(got.delivery, Basic.GetOk) or got.delivery.delivery_tag is None:
        return None
    properties = got.header.properties
    return DeadMessage(
        queue=queue,
        body=got.body,
        headers=dict(properties.headers or {}),
        priority=properties.priority or 0,
        dead_lettered_at=properties.timestamp,
        tag=got.delivery.delivery_tag,
    )
