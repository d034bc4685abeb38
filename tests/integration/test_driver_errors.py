"""However a connection ends, nothing but our own errors comes out of what waited for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from aiormq.connection import Connection as AiormqConnection
from pamqp import commands

from api_shared.cancellation import cancel_and_wait
from api_shared.client.runtime import Runtime
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.testing import default_settings
from api_shared.testing.waiting import until
from api_shared.transport.connection import Connection
from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import declare, topology_of
from api_shared.worker.maintenance.dispatcher import Dispatcher
from api_shared.worker.process.background import keep_going
from fixtures.doubles import Clock, RecordingPublisher
from fixtures.fake_rabbitmq import FakeRabbitMQ
from fixtures.ledgers import a_job, inserted

SETTINGS = default_settings(dispatch_every_s=0.05, connect_deadline_s=5)
TOPOLOGY = topology_of("general", SETTINGS)


@pytest.fixture
async def rabbit() -> AsyncIterator[FakeRabbitMQ]:
    async with FakeRabbitMQ.running() as fake:
        yield fake


@pytest.fixture
def soon_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is stuck after one second of silence."""
    monkeypatch.setattr(AiormqConnection, "HEARTBEAT_GRACE_MULTIPLIER", 0.5)


@asynccontextmanager
async def linked(
    rabbit: FakeRabbitMQ, on_open: Callable[[Any], Any] | None = None
) -> AsyncIterator[Connection]:
    connection = Connection(
        rabbit.url,
        name="test",
        heartbeat_s=1,
        connect_deadline_s=1,
        on_open=on_open or (lambda channel: declare(channel, TOPOLOGY)),
    )
    await connection.start(wait_s=5)
    try:
        yield connection
    finally:
        await connection.close()


def publisher_on(connection: Connection) -> AmqpPublisher:
    return AmqpPublisher(connection, TOPOLOGY, deadline_s=10)


async def publishing(publisher: AmqpPublisher, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(publisher.publish_job(a_job())) for _ in range(count)]


async def until_blocked(connection: Connection, wanted: bool) -> None:
    async with asyncio.timeout(60):
        while await connection.is_blocked() is not wanted:  # noqa: ASYNC110 - the driver has no event
            await asyncio.sleep(0)


@pytest.mark.usefixtures("soon_stuck")
async def test_a_publish_on_a_connection_that_is_stuck_says_that_rabbitmq_is_away(
    rabbit: FakeRabbitMQ,
) -> None:
    async with linked(rabbit) as connection:
        rabbit.silent = True
        with pytest.raises(RabbitUnavailable, match="stuck"):
            await publisher_on(connection).publish_job(a_job())


async def test_so_does_one_whose_connection_ends_behind_a_burst_of_frames(
    rabbit: FakeRabbitMQ,
) -> None:
    async with linked(rabbit) as connection:
        rabbit.confirms = False
        waiting = await publishing(publisher_on(connection), 5)
        await until(lambda: rabbit.asked["Basic.Publish"] == 5)
        rabbit.send(1, *(commands.Basic.Ack(tag, False) for tag in (1, 2)))
        rabbit.send(1, *(commands.Basic.Ack(900, False) for _ in range(60)))
        rabbit.hang_up()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ended] == [type(None)] * 2 + [RabbitUnavailable] * 3


async def test_a_publish_that_is_cancelled_ends_as_cancelled(rabbit: FakeRabbitMQ) -> None:
    async with linked(rabbit) as connection:
        rabbit.confirms = False
        [waiting] = await publishing(publisher_on(connection), 1)
        await until(lambda: rabbit.asked["Basic.Publish"] == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await publisher_on(connection).publish_job(a_job())


async def test_while_rabbitmq_blocks_publishers_a_publish_fails_at_once_and_keeps_nothing(
    rabbit: FakeRabbitMQ,
) -> None:
    async with linked(rabbit) as connection:
        publisher = publisher_on(connection)
        rabbit.send(0, commands.Connection.Blocked("low on memory"))
        await until_blocked(connection, True)
        async with asyncio.timeout(60):  # each on its own would wait for its deadline of 10 s
            for _ in range(20):
                with pytest.raises(RabbitUnavailable, match="lack of memory"):
                    await publisher.publish_job(a_job())
        rabbit.send(0, commands.Connection.Unblocked())
        await until_blocked(connection, False)
        await publisher.publish_job(a_job())
        assert rabbit.asked["Basic.Publish"] == 1


@pytest.mark.usefixtures("soon_stuck")
async def test_a_dispatcher_outlives_a_stuck_connection_and_publishes_when_there_is_another(
    rabbit: FakeRabbitMQ,
) -> None:
    async with linked(rabbit) as connection:
        publisher = publisher_on(connection)
        clock = Clock()
        ledger = MemoryLedger(clock)
        runtime = Runtime(SETTINGS, TOPOLOGY, ledger, MemoryNotifier(), publisher)
        no_letters: Any = RecordingPublisher()
        dispatcher = Dispatcher(runtime, publisher, no_letters, Random(0))
        await inserted(ledger, due_in_s=0)
        clock.advance(SETTINGS.republish_after_s)
        rabbit.silent = True
        running = asyncio.create_task(keep_going(dispatcher.run))
        await until(lambda: connection.channel is None)
        assert not running.done()
        rabbit.silent = False

        def is_published() -> bool:
            clock.advance(SETTINGS.republish_after_s)  # a busy machine may lose the next one, too
            return rabbit.asked["Basic.Publish"] > 0

        await until(is_published)
        await cancel_and_wait(running)


@asynccontextmanager
async def consuming(rabbit: FakeRabbitMQ) -> AsyncIterator[tuple[Consumer, Connection]]:
    consumer = Consumer(SETTINGS, TOPOLOGY.queues)
    async with linked(rabbit, consumer.use) as connection:
        consumer.start()
        yield consumer, connection
        await consumer.close()


@pytest.mark.usefixtures("soon_stuck")
async def test_who_waits_for_a_message_goes_on_waiting_when_the_connection_is_stuck(
    rabbit: FakeRabbitMQ,
) -> None:
    async with consuming(rabbit) as (consumer, connection):
        rabbit.silent_after = "Queue.Declare"  # whether a better queue holds more is asked so
        settles: Any = None
        consumer.put_back(Delivery((2, 0, 1), b"{}", TOPOLOGY.queue("low"), {}, 1, settles))
        taking = asyncio.create_task(consumer.next())
        await until(lambda: connection.channel is None)
        rabbit.silent, rabbit.silent_after = False, None
        await until(lambda: connection.opened == 2)
        assert not taking.done()
        taking.cancel()


async def test_a_consumer_minds_on_after_its_connection_ended_under_a_cancel(
    rabbit: FakeRabbitMQ,
) -> None:
    async with consuming(rabbit) as (_, connection):
        rabbit.silent_after = "Basic.Cancel"
        await until(lambda: rabbit.silent)  # nobody takes: it stops consuming
        rabbit.silent, rabbit.silent_after = False, None
        rabbit.send(1, *(commands.Basic.Ack(900, False) for _ in range(60)))
        rabbit.hang_up()
        await until(lambda: connection.opened == 2)
        cancelled = rabbit.asked["Basic.Cancel"]
        await until(lambda: rabbit.asked["Basic.Cancel"] > cancelled)
