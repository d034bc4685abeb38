"""One connection to RabbitMQ that is made again whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import uniform
from typing import cast

import aiormq
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import AMQPError
from yarl import URL

from api_shared.errors import QueueMismatch, ServerError
from api_shared.tls import why_untrusted

log = structlog.get_logger()

OPEN_ERRORS = (AMQPError, OSError, asyncio.TimeoutError, RuntimeError)
"""What opening or using a connection raises when the server is not there, or not there any more."""
MAX_WAIT_S = 3.0


class RabbitUnavailable(ServerError):
    """RabbitMQ cannot be reached; `reason` carries no password."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"RabbitMQ (RABBITMQ_URL) is not reachable: {reason}")


class Link:
    """
    A connection with one channel (publisher confirms, returned messages raise).

    `on_open` prepares each new channel; if it raises `QueueMismatch` the link gives up and shows
    it as `failure`. `channel` is None while the connection is down: nobody waits by accident.
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
        self._task = asyncio.create_task(self._keep_open(), name=f"link-{self._name}")
        try:
            async with asyncio.timeout(wait_s):
                await self.wait_open()
        except TimeoutError:
            log.warning(
                "rabbitmq.unreachable", link=self._name, waited_s=wait_s, error=self._last_error
            )

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._drop()

    async def wait_open(self) -> Channel:
        """The open channel; waits for it. Raises `QueueMismatch` when there will be none."""
        while self.channel is None:
            if self.failure is not None:
                raise self.failure
            self._changed.clear()
            await self._changed.wait()
        return self.channel

    async def side_channel(self) -> AbstractChannel:
        """A channel of its own for calls that may fail, which closes it. Close it after use."""
        connection = self._connection
        if connection is None or self.channel is None:
            raise RabbitUnavailable("not connected")
        try:
            return await connection.channel(timeout=self._connect_deadline_s)
        except OPEN_ERRORS as error:
            raise RabbitUnavailable(words(error)) from None

    async def _keep_open(self) -> None:
        wait_s = 0.1
        while True:
            try:
                channel, closing = await self._open()
            except QueueMismatch as error:
                self.failure = error
                self._changed.set()
                return
            except Exception as error:  # whatever the driver raises, there is another try
                is_known = isinstance(error, OPEN_ERRORS)
                say = log.debug if is_known else log.exception
                self._last_error = words(error)
                say("rabbitmq.connect_failed", link=self._name, error=self._last_error)
                await self._drop()
                await asyncio.sleep(wait_s * uniform(0.75, 1.25))  # noqa: S311 - jitter
                wait_s = min(wait_s * 2, MAX_WAIT_S)
                continue
            wait_s = 0.1
            self.channel = channel
            self.opened += 1
            self._changed.set()
            say = log.debug if self.opened == 1 else log.info
            say("rabbitmq.connected", link=self._name, opened=self.opened)
            await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
            self.channel = None
            log.warning("rabbitmq.lost", link=self._name)
            await self._drop()
            await asyncio.sleep(wait_s * uniform(0.75, 1.25))  # noqa: S311 - jitter

    async def _open(self) -> tuple[Channel, list[asyncio.Future[object]]]:
        async with asyncio.timeout(self._connect_deadline_s):
            self._connection = await aiormq.connect(self._url)
            opened = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            channel = cast(Channel, opened)
            await self._on_open(channel)
        closing = [channel.closing, self._connection.closing]
        return channel, closing

    async def _drop(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(1):
                await connection.close()
        except Exception as error:
            log.debug("rabbitmq.close_failed", link=self._name, error=words(error))
        except asyncio.CancelledError:  # the driver's own, unless it is ours
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise


def words(error: BaseException) -> str:
    """An error in words; connection errors of the driver show the host, never the password."""
    if untrusted := why_untrusted(error, "RABBITMQ_TLS_CA_FILE"):
        return untrusted
    return f"{type(error).__name__}: {error}".rstrip(": ")
