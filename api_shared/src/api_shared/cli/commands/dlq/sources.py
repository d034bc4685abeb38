"""The dead letters of both brokers, as sources for the `kiq dlq` commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_shared.cli.connections import BROKERS, ledger_of
from api_shared.cli.rabbitmq import rabbitmq_of
from api_shared.client.dead_letters.dead_letter import DeadLetter, DeadLetterFilter, dead_letter_of
from api_shared.client.dead_letters.reader import DeadLetterReader
from api_shared.client.dead_letters.requeue import Answer, put_back
from api_shared.client.runtime import Runtime
from api_shared.errors import UnknownQueue
from api_shared.notifier.redis.notifier import RedisNotifier
from api_shared.transport.connection import Connection
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import Topology, declare, topology_of

if TYPE_CHECKING:
    from api_shared.settings import Settings


@dataclass(frozen=True, slots=True)
class DlqSource:
    """
    The dead letters of one broker. Those that are read are hidden from others until it closes.
    """

    runtime: Runtime
    publisher: AmqpPublisher
    reader: DeadLetterReader

    async def requeue(self, dead_letter: DeadLetter, *, forget_journal: bool) -> Answer:
        """Raises `UniqueTaken`, `LedgerUnavailable`, `RabbitUnavailable`, `Unroutable`."""
        return await put_back(
            dead_letter, self.reader, self.publisher, self.runtime, forget_journal=forget_journal
        )

    async def purge(self, dead_letter: DeadLetter) -> None:
        await self.reader.remove(dead_letter.message)


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter, and the source that it was read from."""

    source: DlqSource
    dead_letter: DeadLetter


@asynccontextmanager
async def dlq_sources_of(settings: Settings, queue: str | None) -> AsyncIterator[list[DlqSource]]:
    """
    The sources of both brokers, or of the one that has `queue`, with that queue alone.

    Raises `UnknownQueue`, `RabbitUnavailable`, `QueueMismatch`.
    """
    topologies = _topologies(settings, queue)
    # Its error says why RabbitMQ cannot be reached; a `Connection` would only try again.
    async with rabbitmq_of(settings):
        pass
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(ledger_of(settings))
        notifier = RedisNotifier(settings)
        await notifier.start()
        stack.push_async_callback(notifier.close)
        sources = []
        for topology in topologies:
            connection = await stack.enter_async_context(_connection_of(settings, topology))
            publisher = AmqpPublisher(connection, topology, deadline_s=settings.publish_deadline_s)
            queues = [each for each in topology.queues if queue in (None, each.name)]
            reader = await stack.enter_async_context(DeadLetterReader.open(connection, queues))
            runtime = Runtime(settings, topology, ledger, notifier, publisher)
            sources.append(DlqSource(runtime, publisher, reader))
        yield sources


async def gather(
    sources: Sequence[DlqSource], filters: DeadLetterFilter, *, limit: int
) -> list[Found]:
    """
    The first `limit` that match, queue by queue, the oldest first. Once all keys of the filter were
    seen, it ends with their queue: copies of a dead letter are in the same one.
    """
    found: list[Found] = []
    unseen = set(filters.keys)
    last_queue = None
    for source in sources:
        async for message in source.reader.walk():
            if last_queue not in (None, message.queue):
                return found
            dead_letter = await dead_letter_of(message, source.runtime.ledger)
            if filters.matches(dead_letter):
                found.append(Found(source, dead_letter))
            if len(found) >= limit:
                return found
            unseen.discard(dead_letter.key)
            if filters.keys and not unseen:
                last_queue = message.queue
    return found


def _topologies(settings: Settings, queue: str | None) -> list[Topology]:
    all_ = [topology_of(broker, settings) for broker in BROKERS]
    known = [each.name for topology in all_ for each in topology.queues]
    if queue is not None and queue not in known:
        raise UnknownQueue(queue, known)
    return [
        topology
        for topology in all_
        if queue is None or queue in [each.name for each in topology.queues]
    ]


@asynccontextmanager
async def _connection_of(settings: Settings, topology: Topology) -> AsyncIterator[Connection]:
    connection = Connection(
        settings.amqp_url,
        name=f"{topology.broker}-dlq",
        heartbeat_s=settings.rabbitmq_heartbeat_s,
        connect_deadline_s=settings.connect_deadline_s,
        on_open=lambda channel: declare(channel, topology),
    )
    try:
        await connection.start(wait_s=settings.connect_deadline_s)
        if connection.channel is None:
            raise RabbitUnavailable(f"no answer within {settings.connect_deadline_s:g} s")
        yield connection
    finally:
        await connection.close()
