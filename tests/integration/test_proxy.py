"""The proxy that misbehaves when told to, before a server that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import ClassVar

import pytest

from api_shared.testing.chaos.proxy import LOOPBACK, Proxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(_echo, LOOPBACK, 0)
    proxy = Proxy(LOOPBACK, server.sockets[0].getsockname()[1])
    await proxy.start()
    yield proxy
    for writer in Caller.writers:
        writer.transport.abort()
    Caller.writers.clear()
    proxy.heal()
    await proxy.close()
    server.close()


class Caller:
    writers: ClassVar[list[asyncio.StreamWriter]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.writers.append(writer)

    @staticmethod
    async def of(proxy: Proxy) -> Caller:
        return Caller(*await asyncio.open_connection(LOOPBACK, proxy.port))

    async def ask(self, word: bytes) -> bytes:
        self.writer.write(word)
        async with asyncio.timeout(20):
            return await self.reader.readexactly(len(word))


async def lost(caller: Caller) -> bool:
    try:
        async with asyncio.timeout(20):
            return await caller.reader.read(10) == b""
    except ConnectionError:
        return True


async def test_what_is_sent_arrives_and_what_is_answered_too(proxy: Proxy) -> None:
    caller = await Caller.of(proxy)
    assert await caller.ask(b"hello" * 50_000) == b"hello" * 50_000


async def test_a_cut_ends_what_is_open_and_lets_new_ones_through(proxy: Proxy) -> None:
    caller = await Caller.of(proxy)
    await caller.ask(b"hello")
    proxy.cut()
    assert await lost(caller)
    assert await (await Caller.of(proxy)).ask(b"again") == b"again"


async def test_a_black_hole_closes_nothing_and_answers_nothing_until_it_heals(
    proxy: Proxy,
) -> None:
    before = await Caller.of(proxy)
    await before.ask(b"hello")
    proxy.black_hole()
    during = await Caller.of(proxy)
    for caller in (before, during):
        caller.writer.write(b"silence")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await caller.reader.read(10)
    proxy.heal()
    assert await lost(before)
    assert await lost(during)
    assert await (await Caller.of(proxy)).ask(b"again") == b"again"


async def test_while_it_refuses_nobody_gets_through(proxy: Proxy) -> None:
    proxy.refuses = True
    with suppress(ConnectionError):
        assert await lost(await Caller.of(proxy))
    proxy.heal()
    assert await (await Caller.of(proxy)).ask(b"again") == b"again"


async def test_answers_can_be_late_and_keep_their_order(proxy: Proxy) -> None:
    caller = await Caller.of(proxy)
    proxy.delay_s = 0.1
    began = asyncio.get_running_loop().time()
    assert await caller.ask(b"first") == b"first"
    assert asyncio.get_running_loop().time() - began >= 0.1
    proxy.delay_s = 0.0
    assert await caller.ask(b"second") == b"second"


async def test_a_tap_that_says_nothing_cuts_the_connection(proxy: Proxy) -> None:
    class Deaf:
        def from_client(self, data: bytes) -> bytes:
            return data

        def from_server(self, data: bytes) -> None:
            return None

    proxy.tap = Deaf
    caller = await Caller.of(proxy)
    caller.writer.write(b"hello")
    assert await lost(caller)
