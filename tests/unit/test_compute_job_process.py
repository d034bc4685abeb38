"""The worker's side of a job's process, with the process played by the test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from api_shared.worker.job_process import Killed, Outcome, Raised, Returned, TimedOut
from api_shared.worker.job_process.framing import HEADER, Kind, frame
from api_shared.worker.job_process.job_process import JobProcess

LIMIT = 1000


class Server:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def kill(self, job: JobProcess) -> None:
        self.told.append("kill")
        job.on_ended(signal.SIGKILL)

    def request_stop(self, job: JobProcess) -> None:
        self.told.append("stop")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def job(server: Server) -> JobProcess:
    return JobProcess(1, server, max_result_bytes=LIMIT)


@pytest.fixture
def process(job: JobProcess) -> Iterator[socket.socket]:
    """The job's end of the channel."""
    channel, lifeline = (os.dup(fd) for fd in job.their_ends)
    job.close_their_ends()
    job.on_started(pid=1)
    with socket.socket(fileno=channel) as ours:
        yield ours
    os.close(lifeline)


async def follow(job: JobProcess, **options: Any) -> Outcome:
    everything: dict[str, Any] = dict.fromkeys(
        ("soft_limit_s", "hard_limit_s", "memory_limit_mb", "on_progress", "task")
    )
    try:
        async with asyncio.timeout(10):
            return await job.follow("module:function", b"arguments", **(everything | options))
    finally:
        await job.end()


async def test_a_result_counts_even_if_the_process_is_reaped_before_we_read_it(
    job: JobProcess, process: socket.socket
) -> None:
    process.sendall(frame(Kind.RETURNED, b"1"))
    job.on_ended(signal.SIGKILL)
    assert await follow(job) == Returned(b"1")


async def test_half_a_result_is_none(job: JobProcess, process: socket.socket) -> None:
    process.sendall(frame(Kind.RETURNED, b"12345")[:-1])
    job.on_ended(signal.SIGKILL)
    assert await follow(job) == Killed(signal=signal.SIGKILL)


async def test_the_first_answer_stands(
    job: JobProcess, process: socket.socket, server: Server
) -> None:
    process.sendall(frame(Kind.RETURNED, b"1") + frame(Kind.RETURNED, b"2"))
    assert await follow(job) == Returned(b"1")
    assert server.told == ["kill"], "a process that has answered is not left to itself"


async def test_limits_are_told_and_kept(
    job: JobProcess, process: socket.socket, server: Server
) -> None:
    outcome = await follow(job, soft_limit_s=0.01, hard_limit_s=0.02)
    assert outcome == TimedOut(0.02, soft=False)
    assert server.told == ["stop", "kill"]


async def test_an_order_arrives_before_the_arguments(
    job: JobProcess, process: socket.socket
) -> None:
    process.sendall(frame(Kind.RETURNED, b"1"))
    await follow(job)
    sent = process.recv(65536)
    kind, size = HEADER.unpack_from(sent)
    order = json.loads(sent[HEADER.size : HEADER.size + size])
    assert kind == Kind.ORDER
    assert order["function"] == "module:function"
    assert sent[HEADER.size + size :] == frame(Kind.ARGUMENTS, b"arguments")


@pytest.mark.parametrize(
    "sent",
    [
        frame(Kind.RETURNED, b"x" * (LIMIT + 1)),
        frame(Kind.FORK, b"{}"),
        b"not a frame at all",
        frame(Kind.PROGRESS, b"[1]"),
        frame(Kind.PROGRESS, b"{"),
        frame(Kind.PROGRESS, b"[" * 60_000),
        frame(Kind.RAISED, b"{}"),
        frame(Kind.RAISED, b"\xff"),
        frame(Kind.SOFT_LIMIT, b""),
    ],
)
async def test_a_process_that_breaks_the_protocol_is_stopped(
    job: JobProcess, process: socket.socket, server: Server, sent: bytes
) -> None:
    process.sendall(sent)
    outcome = await follow(job)
    assert isinstance(outcome, Killed)
    assert "broke the protocol" in str(outcome)
    assert server.told == ["kill"]


async def test_what_an_exception_says_of_itself_is_only_text(
    job: JobProcess, process: socket.socket
) -> None:
    said: dict[str, Any] = {
        "error_type": 1,
        "message": None,
        "traceback": [],
        "mro": [2],
        "args": [],
        "fields": {},
    }
    process.sendall(frame(Kind.RAISED, json.dumps(said).encode()))
    outcome = await follow(job)
    assert outcome == Raised("1", "None", "[]", mro=("2",))


@pytest.mark.parametrize(
    ("killed", "text"),
    [
        (Killed(signal=11), "killed by SIGSEGV"),
        (Killed(signal=63), "killed by signal 63"),
        (Killed(exit_code=3), "exited with code 3 without a result"),
        (Killed(reason="because"), "because"),
    ],
)
def test_a_death_says_what_it_was(killed: Killed, text: str) -> None:
    assert str(killed) == text
