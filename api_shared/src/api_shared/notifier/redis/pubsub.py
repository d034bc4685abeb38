"""The subscriptions of a process, over one connection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from redis.utils import str_if_bytes

from api_shared.cancellation import cancel_and_wait
from api_shared.notifier.redis.outage import Outage, pause_s

CONFIRM_DEADLINE_S = 1.0
CONNECT_DEADLINE_S = 1.5
SILENCE_S = 1.5


class Listener(Protocol):
    """A subscription, as the connection sees it."""

    def deliver(self, item: Any) -> None: ...

    def lose(self) -> None: ...


class Connection(Protocol):
    """The used part of redis-py's connection, without retries and without a client."""

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...

    async def send_command(self, *args: str, check_health: bool) -> None: ...

    async def read_response(
        self, *, timeout: float, disconnect_on_error: bool, push_request: bool
    ) -> Any: ...


@dataclass(slots=True)
class _Channel:
    """
    A channel and its listeners. `missed`: events may have been published that they did not get.
    """

    listeners: list[Listener] = field(default_factory=list)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    missed: bool = False


@dataclass(slots=True)
class _Link:
    """One connection, from its connect to its end, and the requests that it was used for."""

    connection: Connection
    has_worked: bool = False
    asked: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    unanswered: Counter[str] = field(default_factory=Counter)


class PubSub:
    """
    Keeps the server subscribed to the channels of the listeners, across reconnects.

    A silent connection is tested with PING and given up if there is no answer, so that a network
    that drops everything is noticed within 3 s. `decode` turns a channel and a payload into the
    item for its listeners; None: there is no item for them.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        decode: Callable[[str, bytes], Any],
        outage: Outage,
        rng: Random,
    ) -> None:
        self._connect = connect
        self._decode = decode
        self._outage = outage
        self._rng = rng
        self._pubsub: dict[str, _Channel] = {}
        self._changed = asyncio.Event()
        self._link: _Link | None = None
        self._is_away = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._is_away = False
        self._task = asyncio.create_task(self._run(), name="notifier.channels")

    async def close(self) -> None:
        self._is_away = True
        if self._task is not None:
            await cancel_and_wait(self._task)
            self._task = None
        self._notify_all_of_the_loss()

    @asynccontextmanager
    async def listen(self, name: str, listener: Listener) -> AsyncIterator[None]:
        """
        Enter when the server has confirmed the subscription, or at once if Redis is away.

        In the second case `lose` notifies the listener once the subscription is confirmed.
        """
        channel = self._pubsub.get(name) or self._open(name)
        channel.listeners.append(listener)
        try:
            await self._settle(channel)
            yield
        finally:
            channel.listeners.remove(listener)
            if not channel.listeners:
                del self._pubsub[name]
                self._changed.set()

    def _open(self, name: str) -> _Channel:
        channel = self._pubsub[name] = _Channel()
        if self._link is not None and name in self._link.confirmed:
            channel.settled.set()
        self._changed.set()
        return channel

    async def _settle(self, channel: _Channel) -> None:
        if self._is_away:
            channel.missed = True
            return
        try:
            async with asyncio.timeout(CONFIRM_DEADLINE_S):
                await channel.settled.wait()
        except TimeoutError:
            channel.missed = True

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._until_needed()
            link = _Link(self._connect())
            try:
                async with asyncio.timeout(CONNECT_DEADLINE_S):
                    await link.connection.connect()
                self._link = link
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._read(link))
                    both.create_task(self._write(link))
            except Exception as error:  # whatever the client raises: connect again
                if not link.has_worked:  # a lost connection is an outage when the next one fails
                    self._outage.notice("channels", error)
            finally:
                self._link = None
                await link.connection.disconnect(nowait=True)
            self._is_away = True
            self._notify_all_of_the_loss()
            failures = 1 if link.has_worked else failures + 1
            await asyncio.sleep(pause_s(failures, self._rng))

    async def _until_needed(self) -> None:
        """Wait for a listener: a process without listeners does not try to connect."""
        while not self._pubsub:
            self._outage.forget("channels")
            self._is_away = False
            self._changed.clear()
            await self._changed.wait()

    async def _write(self, link: _Link) -> None:
        while True:
            self._changed.clear()
            gone = link.asked - self._pubsub.keys()
            if gone:
                link.asked -= gone
                link.confirmed -= gone
                await _send(link, "UNSUBSCRIBE", *gone)
            new = self._pubsub.keys() - link.asked
            if new:
                link.asked |= new
                link.unanswered.update(new)
                await _send(link, "SUBSCRIBE", *new)
            await self._changed.wait()

    async def _read(self, link: _Link) -> None:
        is_asked = False
        while True:
            reply = await link.connection.read_response(
                timeout=SILENCE_S, disconnect_on_error=False, push_request=True
            )
            if reply is not None:
                is_asked = False
                if isinstance(reply, list) and len(reply) == 3:
                    self._handle(link, str_if_bytes(reply[0]), str_if_bytes(reply[1]), reply[2])
            elif is_asked:
                raise TimeoutError(f"no answer to a PING for {SILENCE_S:g} s")
            else:
                is_asked = True
                await _send(link, "PING")

    def _handle(self, link: _Link, kind: str, name: str, payload: bytes) -> None:
        if kind == "subscribe":
            link.unanswered[name] -= 1
            if link.unanswered[name] == 0 and name in link.asked:
                self._confirm(link, name)
        channel = self._pubsub.get(name)
        if kind != "message" or channel is None:
            return
        item = self._decode(name, payload)
        if item is not None:
            for listener in channel.listeners:
                listener.deliver(item)

    def _confirm(self, link: _Link, name: str) -> None:
        link.confirmed.add(name)
        link.has_worked = True
        self._is_away = False
        self._outage.is_over_for("channels")
        channel = self._pubsub.get(name)
        if channel is not None:
            channel.settled.set()
            if channel.missed:
                channel.missed = False
                for listener in channel.listeners:
                    listener.lose()

    def _notify_all_of_the_loss(self) -> None:
        for channel in self._pubsub.values():
            channel.settled.set()
            if not channel.missed:
                channel.missed = True
                for listener in channel.listeners:
                    listener.lose()


async def _send(link: _Link, *command: str) -> None:
    async with asyncio.timeout(SILENCE_S):
        await link.connection.send_command(*command, check_health=False)
