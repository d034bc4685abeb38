"""Read-only requests to RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity, DeliveryError

from api_shared.errors import ServerError
from api_shared.settings import Settings
from api_shared.transport.connection import closed
from api_shared.transport.errors import RabbitUnavailable, driver_errors, words

ANSWER_S = 5.0


class RabbitRefused(ServerError):
    """RabbitMQ answers, and refuses the request of this user."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"RabbitMQ (RABBITMQ_URL) refuses: {reason}")


@dataclass(frozen=True, slots=True)
class Depth:
    """`ready` messages are in the queue, held by no consumer."""

    ready: int
    consumers: int


@asynccontextmanager
async def rabbitmq_of(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """A connection without channels. Raises `RabbitUnavailable`."""
    wait_s = settings.connect_deadline_s
    try:
        async with asyncio.timeout(wait_s):
            with driver_errors():
                connection = await aiormq.connect(settings.amqp_url)
    except TimeoutError:
        raise RabbitUnavailable(f"no answer within {wait_s:g} s") from None
    try:
        yield connection
    finally:
        await closed(connection, within_s=2)


@asynccontextmanager
async def channel_of(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """
    A channel for one request: a refusal closes it.

    Raises `RabbitUnavailable` when the connection is lost, and the driver's own errors for a
    refusal (`ChannelClosed`, and `DeliveryError` for a message).
    """
    try:
        with driver_errors():
            channel = await connection.channel(timeout=ANSWER_S, on_return_raises=True)
            try:
                yield channel
            finally:
                await closed(channel)
    except RabbitUnavailable as error:
        if isinstance(error.__cause__, ChannelClosed | DeliveryError):
            raise error.__cause__ from None
        raise


async def depth_of(connection: AbstractConnection, queue: str) -> Depth | None:
    """None: there is no such queue. Raises `RabbitUnavailable` and `RabbitRefused`."""
    try:
        async with channel_of(connection) as channel:
            answer = await channel.queue_declare(queue, passive=True, timeout=ANSWER_S)
    except ChannelNotFoundEntity:
        return None
    except ChannelClosed as error:
        raise RabbitRefused(words(error)) from None
    return Depth(answer.message_count or 0, answer.consumer_count or 0)
