"""
A TCP proxy that breaks connections on request, as a network does.

Clients use its `port` instead of the server's. It runs in the event loop that started it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

CHUNK = 64 * 1024
LOOPBACK = "127.0.0.1"


class Tap(Protocol):
    """A reader of one connection's bytes; what it returns is passed on."""

    def from_client(self, data: bytes) -> bytes: ...

    def from_server(self, data: bytes) -> bytes | None:
        """None: nothing is passed to the client, and the connection is cut."""


@dataclass(eq=False, slots=True)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tap: Tap | None
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        """Both ends see a reset, not an orderly end."""
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """
    Forwards bytes between clients and `host`:`port` of a server, until a fault is
    requested: `cut`, `black_hole`, `delay_s` (of each answer), `refuses`. `heal` ends all of them.

    `tap` makes a `Tap` for each new connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._strays: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0
        self.delay_s = 0.0
        self.refuses = False
        self.tap: Callable[[], Tap] | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        pumps = [pump for connection in self._connections for pump in connection.pumps]
        self.cut()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def url(self, of: str) -> str:
        """The server's URL with this proxy's port in it."""
        parts = urlsplit(of)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{LOOPBACK}:{self.port}").geturl()

    def cut(self) -> None:
        """Reset all connections; new ones are let through, unless it `refuses`."""
        for connection in list(self._connections):
            connection.abort()
        for writer in list(self._strays):
            writer.transport.abort()

    def black_hole(self) -> None:
        """From now on nothing arrives, in either direction, and nothing is closed."""
        self._open.clear()

    def heal(self) -> None:
        """As at the start. Connections that a black hole held up are reset, as a router does."""
        self.delay_s, self.refuses, self.tap = 0.0, False, None
        if not self._open.is_set():
            self.cut()
            self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refuses:
            client.transport.abort()
            return
        self._strays.add(client)
        try:
            await self._open.wait()
            if client.transport.is_closing():
                return
            from_server, server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            client.transport.abort()
            return
        finally:
            self._strays.discard(client)
        connection = _Connection(client, server, self.tap() if self.tap else None)
        self._connections.add(connection)
        connection.pumps = [
            asyncio.create_task(self._pump(connection, reader, server, is_answer=False)),
            asyncio.create_task(self._pump(connection, from_server, client, is_answer=True)),
        ]
        await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
        connection.abort()
        for pump in connection.pumps:
            pump.cancel()
        await asyncio.gather(*connection.pumps, return_exceptions=True)
        self._connections.discard(connection)

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_answer: bool,
    ) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        clock = asyncio.get_running_loop().time

        async def read() -> None:
            while data := await reader.read(CHUNK):
                await late.put((clock() + (self.delay_s if is_answer else 0.0), data))

        async def write() -> None:
            while True:
                at, data = await late.get()
                await asyncio.sleep(max(0.0, at - clock()))
                await self._open.wait()
                passed = _seen(connection.tap, data, is_answer=is_answer)
                if passed is None:
                    return
                writer.write(passed)
                await writer.drain()

        with suppress(OSError):
            await _first_to_end(read(), write())


def _seen(tap: Tap | None, data: bytes, *, is_answer: bool) -> bytes | None:
    if tap is None:
        return data
    return tap.from_server(data) if is_answer else tap.from_client(data)


async def _first_to_end(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them side by side until one ends; raises what that one raised."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
