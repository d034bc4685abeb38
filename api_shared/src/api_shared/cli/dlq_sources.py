"""What the `kiq dlq` commands work on: the dead letters of both brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_shared.cli.connections import BROKERS, ledger_of
from api_shared.cli.rabbitmq import rabbitmq_of
from api_shared.client.dead_letters.dead_letter import DeadLetter, LetterFilter, letter_of
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
    """One broker's dead letters. What is read stays hidden from others until the desk is closed."""

    runtime: Runtime
    publisher: AmqpPublisher
    pile: DeadLetterReader

    async def requeue(self, letter: DeadLetter, *, forget_journal: bool) -> Answer:
        """Raises `UniqueTaken`, `LedgerUnavailable`, `RabbitUnavailable`, `Unroutable`."""
        return await put_back(
            letter, self.pile, self.publisher, self.runtime, forget_journal=forget_journal
        )

    async def purge(self, letter: DeadLetter) -> None:
        await self.pile.remove(letter.message)


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter, and the desk it lies on."""

    desk: DlqSource
    letter: DeadLetter


@asynccontextmanager
async def dlq_sources_of(settings: Settings, queue: str | None) -> AsyncIterator[list[DlqSource]]:
    """
    The desks of both brokers, or of the one that has `queue` with that queue alone.

    Raises `UnknownQueue`, `RabbitUnavailable`, `QueueMismatch`.
    """
    topologies = _topologies(settings, queue)
    async with rabbitmq_of(settings):  # says why it cannot be reached; a connection tries again
        pass
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(ledger_of(settings))
        notifier = RedisNotifier(settings)
        await notifier.start()
        stack.push_async_callback(notifier.close)
        desks = []
        for topology in topologies:
            connection = await stack.enter_async_context(_link_of(settings, topology))
            publisher = AmqpPublisher(connection, topology, deadline_s=settings.publish_deadline_s)
            queues = [each for each in topology.queues if queue in (None, each.name)]
            pile = await stack.enter_async_context(DeadLetterReader.open(connection, queues))
            runtime = Runtime(settings, topology, ledger, notifier, publisher)
            desks.append(DlqSource(runtime, publisher, pile))
        yield desks


async def gather(desks: Sequence[DlqSource], wanted: LetterFilter, *, limit: int) -> list[Found]:
    """
    The first `limit` that match, queue by queue, the oldest first. Once all wanted keys were seen
    it ends with their queue: copies of a letter lie in the same one.
    """
    found: list[Found] = []
    unseen = set(wanted.keys)
    last_queue = None
    for desk in desks:
        async for message in desk.pile.walk():
            if last_queue not in (None, message.queue):
                return found
            letter = await letter_of(message, desk.runtime.ledger)
            if wanted.matches(letter):
                found.append(Found(desk, letter))
            if len(found) >= limit:
                return found
            unseen.discard(letter.key)
            if wanted.keys and not unseen:
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
async def _link_of(settings: Settings, topology: Topology) -> AsyncIterator[Connection]:
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
