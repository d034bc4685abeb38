"""What is sent and believed on the listening connection, with a server that a test plays."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from api_shared.notifier.redis.outage import Outage
from api_shared.notifier.redis.pubsub import PubSub
from api_shared.notifier.subscription import QueuedSubscription, each_once
from api_shared.testing.waiting import until


class PlayedConnection:
    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []
        self.replies: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def connect(self) -> None:
        """The server is there."""

    async def disconnect(self, nowait: bool = False) -> None:
        """And may go."""

    async def send_command(self, *args: str, check_health: bool) -> None:
        self.sent.append(args)

    async def read_response(
        self, *, timeout: float, disconnect_on_error: bool, push_request: bool
    ) -> list[Any]:
        return await self.replies.get()


async def test_a_confirmation_from_before_an_unsubscribe_is_not_taken_for_the_new_one() -> None:
    server = PlayedConnection()
    channels = PubSub(lambda: server, lambda _, payload: payload, Outage(), Random(1))
    channels.start()
    mailbox: QueuedSubscription[Any] = QueuedSubscription(each_once)

    async def listen() -> None:
        async with channels.listen("job", mailbox):
            await asyncio.Event().wait()

    hasty = asyncio.create_task(listen())
    await until(lambda: server.sent == [("SUBSCRIBE", "job")])
    hasty.cancel()
    await until(lambda: server.sent[1:] == [("UNSUBSCRIBE", "job")])
    async with AsyncExitStack() as stack:
        entering = asyncio.create_task(stack.enter_async_context(channels.listen("job", mailbox)))
        await until(lambda: server.sent[2:] == [("SUBSCRIBE", "job")])
        await server.replies.put([b"subscribe", b"job", 1])
        await server.replies.put([b"unsubscribe", b"job", 0])
        await until(server.replies.empty)
        assert not entering.done()
        await server.replies.put([b"subscribe", b"job", 1])
        await entering
        assert await mailbox.next(0) is None
        await server.replies.put([b"message", b"job", b"hello"])
        assert await mailbox.next(30) == b"hello"
    await channels.close()
