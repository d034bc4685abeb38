"""A machine that has no room for one more process."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_shared.worker.job_process import ForkRefused
from api_shared.worker.job_process.fork_server import ForkServer


@pytest.fixture
async def server() -> AsyncIterator[ForkServer]:
    server = await ForkServer.start((), timeout_s=60)
    yield server
    await server.close()


async def test_a_fork_that_fails_is_told_from_a_death(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(data: bytes, descriptors: Any = ()) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(server._jobs[1].on_ended, None, "Resource temporarily unavailable")

    monkeypatch.setattr(server, "_send", answers)
    with pytest.raises(ForkRefused, match="no process for the job: Resource temporarily"):
        await server.fork(max_result_bytes=10)


async def test_without_descriptors_there_is_no_process(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", none_left)
    with pytest.raises(ForkRefused, match="Too many open files"):
        await server.fork(max_result_bytes=10)
