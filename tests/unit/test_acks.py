"""Acks: each tag answered once, and never a multiple ack over what is settled already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import DataObject, data, sampled_from
from structlog.testing import capture_logs

from api_shared.transport.acks import Acks


class PreconditionFailed(Exception):
    """What RabbitMQ closes a channel for."""


class Channel:
    """A channel that keeps RabbitMQ's rule: an unknown delivery tag is an error."""

    def __init__(self) -> None:
        self.unsettled: list[int] = []
        self.acked: list[int] = []
        self.given_back: list[int] = []
        self.frames = 0
        self.broken: list[int] = []
        self.is_gone = False

    def deliver(self, tag: int) -> None:
        self.unsettled.append(tag)

    async def basic_ack(self, tag: int, multiple: bool = False, wait: bool = True) -> None:
        self._frame()
        covered = [each for each in self.unsettled if each == tag or (multiple and each < tag)]
        if tag not in covered:
            self.broken.append(tag)
        self._settle(covered, self.acked)

    async def basic_nack(self, tag: int, *, requeue: bool, wait: bool = True) -> None:
        self._frame()
        assert requeue
        if tag not in self.unsettled:
            self.broken.append(tag)
        self._settle([tag], self.given_back)

    def _frame(self) -> None:
        if self.is_gone:
            raise ChannelInvalidStateError("closed")
        self.frames += 1

    def _settle(self, tags: list[int], where: list[int]) -> None:
        self.unsettled = [tag for tag in self.unsettled if tag not in tags]
        where.extend(tags)


def acks_on(channel: Channel) -> Acks:
    double: Any = channel
    return Acks(double)


def deliver(channel: Channel, acks: Acks, *tags: int) -> None:
    for tag in tags:
        channel.deliver(tag)
        acks.delivered(tag)


@pytest.fixture
def channel() -> Channel:
    return Channel()


async def test_a_run_of_jobs_costs_one_frame(channel: Channel) -> None:
    acks = acks_on(channel)
    deliver(channel, acks, *range(1, 101))
    for tag in range(1, 101):
        acks.ack(tag)
    await acks.drain()
    assert channel.acked == list(range(1, 101))
    assert channel.frames == 1


async def test_an_ack_beyond_a_gap_leaves_the_gap_unsettled(channel: Channel) -> None:
    acks = acks_on(channel)
    deliver(channel, acks, 1, 2, 3)
    acks.ack(3)
    acks.ack(1)
    await acks.drain()
    assert (sorted(channel.acked), channel.unsettled) == ([1, 3], [2])
    acks.ack(2)
    await acks.drain()
    assert (channel.unsettled, channel.broken) == ([], [])


async def test_the_first_of_a_flush_is_written_without_waiting_for_a_drain(
    channel: Channel,
) -> None:
    acks = acks_on(channel)
    deliver(channel, acks, 1)
    acks.ack(1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert channel.acked == [1]


async def test_a_tag_is_answered_once_however_often_it_is_asked_for(channel: Channel) -> None:
    acks = acks_on(channel)
    deliver(channel, acks, 1, 2)
    acks.requeue(1)
    acks.requeue(1)
    acks.ack(1)
    acks.ack(2)
    acks.ack(2)
    await acks.drain()
    acks.ack(2)
    acks.requeue(2)
    await acks.drain()
    assert (channel.acked, channel.given_back, channel.broken) == ([2], [1], [])


async def test_what_a_channel_that_is_gone_does_not_take_is_dropped_one_by_one(
    channel: Channel,
) -> None:
    acks = acks_on(channel)
    deliver(channel, acks, 1, 2, 3)
    channel.is_gone = True
    with capture_logs() as logs:
        acks.ack(3)
        acks.requeue(2)
        acks.ack(1)
        await acks.drain()
    assert [(log["event"], log["tag"]) for log in logs] == [
        ("rabbitmq.give_back_dropped", 2),
        ("rabbitmq.ack_dropped", 3),
    ]


class AcksMachine(RuleBasedStateMachine):
    """Deliveries, acks and give-backs in any order, with frames written at any time between."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.channel = Channel()
        self.acks = self.loop.run_until_complete(self._made())
        self.last = 0
        self.open: set[int] = set()
        self.want_acked: set[int] = set()
        self.want_back: set[int] = set()

    async def _made(self) -> Acks:
        return acks_on(self.channel)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.acks.drain())
        assert sorted(self.channel.acked) == sorted(self.want_acked)
        assert sorted(self.channel.given_back) == sorted(self.want_back)
        assert set(self.channel.unsettled) == self.open
        self.loop.close()

    @rule()
    def one_is_delivered(self) -> None:
        self.last += 1
        self.open.add(self.last)
        deliver(self.channel, self.acks, self.last)

    @precondition(lambda self: self.open)
    @rule(data=data())
    def one_is_acked(self, data: DataObject) -> None:
        tag = self._any_of(self.open, data)
        self.acks.ack(tag)
        self.open.discard(tag)
        self.want_acked.add(tag)

    @precondition(lambda self: self.open)
    @rule(data=data())
    def one_is_given_back(self, data: DataObject) -> None:
        tag = self._any_of(self.open, data)
        self.acks.requeue(tag)
        self.open.discard(tag)
        self.want_back.add(tag)

    @precondition(lambda self: self.want_acked)
    @rule(data=data())
    def a_settled_one_is_acked_again(self, data: DataObject) -> None:
        self.acks.ack(self._any_of(self.want_acked, data))

    @precondition(lambda self: self.want_back)
    @rule(data=data())
    def one_given_back_is_acked_too(self, data: DataObject) -> None:
        self.acks.ack(self._any_of(self.want_back, data))

    @rule()
    def the_loop_turns(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))

    @rule()
    def all_is_written(self) -> None:
        self.loop.run_until_complete(self.acks.drain())
        assert set(self.channel.unsettled) == self.open

    @invariant()
    def the_channel_stands(self) -> None:
        assert self.channel.broken == []
        assert not set(self.channel.acked) & set(self.channel.given_back)

    def _any_of(self, tags: set[int], data: DataObject) -> int:
        tag: int = data.draw(sampled_from(sorted(tags)))
        return tag


AcksMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAcksInAnyOrder = AcksMachine.TestCase
