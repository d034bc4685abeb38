"""A connection to RabbitMQ that is opened again whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import aiormq
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.channel import Channel
from yarl import URL

from api_shared.backoff import backoff_s
from api_shared.cancellation import cancel_and_wait
from api_shared.errors import QueueMismatch
from api_shared.transport.errors import RabbitUnavailable, driver_errors, words
from api_shared.transport.pamqp_patches import patch_pamqp

log = structlog.get_logger()

CLOSE_S = 5.0

_pause_s = partial(backoff_s, base_s=0.1, cap_s=3.0)
"""Seconds before the next try to connect, after so many failures in a row."""


class Connection:
    """
    A connection with one channel (publisher confirms, returned messages raise).

    `on_open` prepares each new channel. While it raises `QueueMismatch`, that error is `failure`.
    `channel` is None while the connection is down, so that nothing waits for it by accident.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        heartbeat_s: int,
        connect_deadline_s: float,
        on_open: Callable[[AbstractChannel], Awaitable[None]],
    ) -> None:
        patch_pamqp()
        self._url = URL(url).update_query(heartbeat=str(heartbeat_s))
        self._name = name
        self._connect_deadline_s = connect_deadline_s
        self._on_open = on_open
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.channel: Channel | None = None
        self.failure: QueueMismatch | None = None
        self.opened = 0
        self._last_error = "no answer"

    async def start(self, *, wait_s: float) -> None:
        """Start connecting and wait at most `wait_s` for it. Raises `QueueMismatch`."""
        self._task = asyncio.create_task(self._keep_open(), name=f"rabbitmq-{self._name}")
        try:
            async with asyncio.timeout(wait_s):
                await self.wait_open()
        except TimeoutError:
            log.warning(
                "rabbitmq.unreachable",
                connection=self._name,
                waited_s=wait_s,
                error=self._last_error,
            )

    async def close(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
        await self._drop()

    async def wait_open(self) -> Channel:
        """Wait for the open channel. Raises `QueueMismatch`, which a person must fix first."""
        while self.channel is None:
            if self.failure is not None:
                raise self.failure
            self._changed.clear()
            await self._changed.wait()
        return self.channel

    async def is_blocked(self) -> bool:
        """
        Whether RabbitMQ has reported that it takes no messages now, for lack of memory or disk.
        """
        if self._connection is None:
            return False
        try:
            async with asyncio.timeout(0):  # the driver only offers a wait for the end of it
                await self._connection.ready()
        except TimeoutError:
            return True
        return False

    @asynccontextmanager
    async def side_channel(self) -> AsyncIterator[AbstractChannel]:
        """A separate channel, for calls whose failure closes the channel."""
        connection = self._connection
        if connection is None or self.channel is None:
            raise RabbitUnavailable("not connected")
        with driver_errors():
            channel = await connection.channel(timeout=self._connect_deadline_s)
        try:
            yield channel
        finally:
            await closed(channel)

    async def _keep_open(self) -> None:
        failures = 0
        while True:
            try:
                channel, closing = await self._open()
            except Exception as error:  # whatever it is, the next try follows
                self._log_failure(error)
                await self._drop()
                failures += 1
                await asyncio.sleep(_pause_s(failures))
                continue
            failures = 0
            self.channel, self.failure = channel, None
            self.opened += 1
            self._changed.set()
            say = log.debug if self.opened == 1 else log.info
            say("rabbitmq.connected", connection=self._name, opened=self.opened)
            await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
            self.channel = None
            log.warning("rabbitmq.lost", connection=self._name)
            await self._drop()
            await asyncio.sleep(_pause_s(1))

    def _log_failure(self, error: Exception) -> None:
        """
        Log a failure. A mismatch is logged as an error once: it stays until a person fixes it.
        """
        self._last_error = words(error)
        known_before, self.failure = self.failure, None
        say = log.debug if isinstance(error, RabbitUnavailable | TimeoutError) else log.exception
        if isinstance(error, QueueMismatch):
            self.failure = error
            self._changed.set()
            say = log.debug if known_before else log.error
        say("rabbitmq.connect_failed", connection=self._name, error=self._last_error)

    async def _open(self) -> tuple[Channel, list[asyncio.Future[object]]]:
        async with asyncio.timeout(self._connect_deadline_s):
            with driver_errors():
                connection = self._connection = await aiormq.connect(self._url)
                opened = await connection.channel(publisher_confirms=True, on_return_raises=True)
            channel = cast(Channel, opened)
            await self._on_open(channel)
        closing = [channel.closing, connection.closing]
        return channel, closing

    async def _drop(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is None:
            return
        await closed(connection, within_s=1)


async def closed(what: AbstractChannel | AbstractConnection, *, within_s: float = CLOSE_S) -> None:
    """Close a channel or a connection; an error is only logged, since it may be lost already."""
    try:
        with driver_errors():
            async with asyncio.timeout(within_s):
                await what.close()
    except RabbitUnavailable as error:
        log.debug("rabbitmq.close_failed", error=str(error))
