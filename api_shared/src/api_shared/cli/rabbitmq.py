"""Questions to RabbitMQ that change nothing there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity, DeliveryError

from api_shared.amqp.link import OPEN_ERRORS, RabbitUnavailable, words
from api_shared.errors import ServerError
from api_shared.settings import Settings

ANSWER_S = 5.0


class RabbitRefused(ServerError):
    """RabbitMQ answers, and does not let this user look."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"RabbitMQ (RABBITMQ_URL) refuses: {reason}")


@dataclass(frozen=True, slots=True)
class Depth:
    """`ready` messages lie in the queue, held by no consumer."""

    ready: int
    consumers: int


@asynccontextmanager
async def rabbitmq_of(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """A connection without channels. Raises `RabbitUnavailable`."""
    wait_s = settings.connect_deadline_s
    try:
        async with asyncio.timeout(wait_s):
            connection = await aiormq.connect(settings.amqp_url)
    except TimeoutError:
        raise RabbitUnavailable(f"no answer within {wait_s:g} s") from None
    except OPEN_ERRORS as error:
        raise RabbitUnavailable(words(error)) from None
    try:
        yield connection
    finally:
        try:
            async with asyncio.timeout(2):
                await connection.close()
        except OPEN_ERRORS:
            pass


@asynccontextmanager
async def channel_of(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """
    A channel for one question: a no closes it.

    Raises `RabbitUnavailable` when the connection is lost; the server's no comes as the driver has
    it (`ChannelClosed`, and `DeliveryError` for a message).
    """
    try:
        channel = await connection.channel(timeout=ANSWER_S, on_return_raises=True)
        try:
            yield channel
        finally:
            if not channel.is_closed:
                await channel.close()
    except (ChannelClosed, DeliveryError):
        raise
    except OPEN_ERRORS as error:
        raise RabbitUnavailable(words(error)) from None


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
