"""Strict preference over several queues, on a channel that the test feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError

from api_shared.testing import default_settings
from api_shared.testing.waiting import until
from api_shared.transport import consumer as consumer_module
from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.topology import QueueSpec

CRITICAL, DEFAULT, LOW = (
    QueueSpec("critical", "critical", 0),
    QueueSpec("taskiq", "taskiq", 1),
    QueueSpec("low", "low", 2),
)


class Channel:
    """Delivers when the test says so; `depths` is what a queue holds beyond that."""

    def __init__(self) -> None:
        self.consumers: dict[str, Any] = {}
        self.queue_of: dict[str, str] = {}
        self.depths: dict[str, int] = {}
        self.asked: list[str] = []
        self.acked: list[int] = []
        self.given_back: list[int] = []
        self.is_gone = False
        self.is_closed = False
        self._tag = 0

    async def basic_qos(self, *, prefetch_count: int) -> None:
        self.prefetch = prefetch_count

    async def basic_consume(self, queue: str, callback: Any) -> Any:
        if self.is_gone:
            raise ChannelInvalidStateError("closed")
        tag = f"consumer-{len(self.queue_of)}"
        self.consumers[tag], self.queue_of[tag] = callback, queue
        return SimpleNamespace(consumer_tag=tag)

    async def basic_cancel(self, tag: str) -> None:
        del self.consumers[tag]

    async def basic_ack(self, tag: int, multiple: bool = False, wait: bool = True) -> None:
        self.acked.append(tag)

    async def basic_nack(self, tag: int, *, requeue: bool, wait: bool = True) -> None:
        self.given_back.append(tag)

    async def queue_declare(self, queue: str, *, passive: bool) -> Any:
        self.asked.append(queue)
        await asyncio.sleep(0)
        return SimpleNamespace(message_count=self.depths.get(queue, 0))

    async def close(self) -> None:
        self.is_closed = True

    @property
    def consumed(self) -> set[str]:
        return {self.queue_of[tag] for tag in self.consumers}

    async def deliver(self, queue: str, body: str, *, priority: int = 0) -> None:
        self._tag += 1
        for tag, callback in list(self.consumers.items()):
            if self.queue_of[tag] == queue:
                properties = SimpleNamespace(priority=priority, headers={})
                await callback(
                    SimpleNamespace(
                        body=body.encode(),
                        delivery=SimpleNamespace(delivery_tag=self._tag),
                        header=SimpleNamespace(properties=properties),
                    )
                )


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
async def consumer(channel: Channel) -> AsyncIterator[Consumer]:
    consumer = Consumer(default_settings(worker_prefetch=7), (DEFAULT, CRITICAL, LOW))
    await use(consumer, channel)
    yield consumer
    await consumer.close()


async def use(consumer: Consumer, channel: Channel) -> None:
    double: Any = channel
    await consumer.use(double)


async def taken(consumer: Consumer, count: int) -> list[str]:
    async with asyncio.timeout(30):
        return [(await consumer.next()).body.decode() for _ in range(count)]


async def test_queues_are_emptied_by_rank_then_priority_then_arrival(
    consumer: Consumer, channel: Channel
) -> None:
    await channel.deliver("low", "l", priority=10)
    await channel.deliver("taskiq", "d1")
    await channel.deliver("taskiq", "d9", priority=9)
    await channel.deliver("taskiq", "d2")
    await channel.deliver("critical", "c")
    assert await taken(consumer, 5) == ["c", "d9", "d1", "d2", "l"]
    assert channel.prefetch == 7


async def test_a_lower_queue_waits_until_the_higher_ones_are_known_to_be_dry(
    consumer: Consumer, channel: Channel
) -> None:
    channel.depths["critical"] = 1
    await channel.deliver("low", "l")
    taking = asyncio.create_task(taken(consumer, 2))
    await until(lambda: "critical" in channel.asked)
    assert not taking.done()
    channel.depths["critical"] = 0
    await channel.deliver("critical", "c")
    assert await taking == ["c", "l"]


async def test_a_dry_queue_is_asked_once_until_it_delivers_again(
    consumer: Consumer, channel: Channel
) -> None:
    for _ in range(5):
        await channel.deliver("taskiq", "d")
    await taken(consumer, 5)
    assert channel.asked == ["critical"]
    await channel.deliver("critical", "c")
    await channel.deliver("taskiq", "d")
    await taken(consumer, 2)
    assert channel.asked == ["critical", "critical"]


async def test_what_is_put_back_is_the_next_again(consumer: Consumer, channel: Channel) -> None:
    await channel.deliver("taskiq", "first")
    await channel.deliver("taskiq", "second")
    first = await consumer.next()
    consumer.put_back(first)
    assert await taken(consumer, 2) == ["first", "second"]


async def test_deliveries_are_given_back_last_first_so_that_they_keep_their_places(
    consumer: Consumer, channel: Channel
) -> None:
    for number in range(1, 5):
        await channel.deliver("taskiq", str(number))
    await consumer.next()
    await consumer.close()
    assert channel.given_back == [4, 3, 2]
    assert channel.consumers == {}
    assert consumer.buffered == {}


async def test_a_stopped_queue_is_given_back_and_the_others_go_on(
    consumer: Consumer, channel: Channel
) -> None:
    await channel.deliver("taskiq", "d")
    await channel.deliver("low", "l")
    await consumer.stop_queues({"taskiq"})
    assert channel.consumed == {"critical", "low"}
    assert channel.given_back == [1]
    assert consumer.buffered == {"low": 1}
    await consumer.resume_queues({"taskiq"})
    assert channel.consumed == {"critical", "low", "taskiq"}


async def test_a_paused_consumer_gives_back_what_it_holds_and_comes_back(
    consumer: Consumer, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FULL_AFTER_S", 0.004)
    await channel.deliver("taskiq", "d")
    consumer.pause(1.0)  # while it lasts, all of this must have been given back
    consumer.start()
    taking = asyncio.create_task(taken(consumer, 1))
    await until(lambda: channel.given_back == [1])
    assert channel.consumed == set()
    await until(lambda: channel.consumed)
    await channel.deliver("taskiq", "d")
    assert await taking == ["d"]


async def test_a_consumer_that_nobody_takes_from_gives_back_what_it_holds(
    consumer: Consumer, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FULL_AFTER_S", 0.004)
    await channel.deliver("taskiq", "d")
    consumer.start()
    await until(lambda: channel.given_back == [1])
    assert channel.consumed == set()


async def test_a_queue_that_rabbitmq_stopped_delivering_from_closes_the_channel(
    consumer: Consumer, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FULL_AFTER_S", 0.004)
    taking = asyncio.create_task(consumer.next())
    channel.consumers.popitem()
    consumer.start()
    await until(lambda: channel.is_closed)
    taking.cancel()


async def test_a_new_channel_forgets_the_deliveries_of_the_old_one(
    consumer: Consumer, channel: Channel
) -> None:
    await channel.deliver("taskiq", "old")
    fresh = Channel()
    await use(consumer, fresh)
    await channel.deliver("taskiq", "late")
    await fresh.deliver("taskiq", "new")
    assert await taken(consumer, 1) == ["new"]
    assert consumer.buffered == {}


async def test_a_channel_that_fails_is_waited_out(consumer: Consumer, channel: Channel) -> None:
    await consumer.stop_queues({"critical", "taskiq", "low"})
    channel.is_gone = True
    await consumer.resume_queues({"taskiq"})
    taking = asyncio.create_task(taken(consumer, 1))
    await asyncio.sleep(0)
    fresh = Channel()
    await use(consumer, fresh)
    await fresh.deliver("taskiq", "d")
    assert await taking == ["d"]


async def test_a_delivery_is_answered_through_its_own_channel(
    consumer: Consumer, channel: Channel
) -> None:
    await channel.deliver("taskiq", "a")
    await channel.deliver("taskiq", "b")
    first: Delivery = await consumer.next()
    second = await consumer.next()
    first.ack()
    second.requeue()
    await consumer.settle()
    assert (channel.acked, channel.given_back) == ([1], [2])
