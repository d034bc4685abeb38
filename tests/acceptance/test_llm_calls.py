"""Model calls of real worker processes: a server's wishes, a cancel, a server that is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from api_shared.client.follow.handle import JobHandle
from api_shared.job import Status
from fixtures.fault_server import FaultServer, echoes, refuses, says, stalls, waits_for
from fixtures.workers import LONG_S, Platform, until
from jobs.broker import broker
from jobs.llm_tasks import ask_parts

WORKER = "jobs.llm_main:broker"
BUSY = {"error": {"message": "slow down", "type": "rate_limit", "code": 429}}


@pytest.fixture
async def served(platform: Platform, faults: FaultServer) -> AsyncIterator[Platform]:
    """A platform whose workers call the fault server."""
    platform.env |= {"LLM_SERVER_URL": faults.url, "LLM_MODEL": "m", "LLM_PATIENCE_S": "0.2"}
    await platform.start(broker)
    yield platform


async def test_a_servers_wish_to_be_left_alone_stops_all_workers_and_costs_no_attempt(
    served: Platform, faults: FaultServer
) -> None:
    served.env |= {"LLM_MAX_RETRY_AFTER_S": "3600"}
    faults.on_chat(says("probed"), says("probed"), refuses(429, BUSY, Retry_After="3600"), echoes())
    await served.worker(WORKER, processes=2)
    await until(lambda: len(faults.chats) == 2, what="both processes have probed the server")
    handles = [await ask_parts.kiq("first", 1)]
    await served.noted(handles[0], f"{faults.url} asked to be left alone")
    asked = len(faults.chats)
    handles += [await ask_parts.kiq(f"other-{number}", 1) for number in range(6)]
    for handle in handles:
        job = await served.noted(handle, "asked to be left alone")
        assert (job.status, job.attempt, job.lost) == (Status.RETRYING, 0, 0)
        assert job.due_at is not None
        assert (job.due_at - job.history[-1].at).total_seconds() > 3000
    assert len(faults.chats) == asked, "nobody has asked again"


async def test_a_job_calls_once_more_when_the_server_may_be_asked_again(
    served: Platform, faults: FaultServer
) -> None:
    faults.on_chat(says("probed"), refuses(429, BUSY, Retry_After="2"), echoes())
    await served.worker(WORKER)
    await until(lambda: faults.chats, what="the worker has probed the server")
    handle = await ask_parts.kiq("job", 1)
    assert await handle.result(LONG_S) == ["job 0"]
    job = await served.job(handle)
    (waited, again), *more = [
        (entry, later)
        for entry, later in pairwise(job.history)
        if "asked to be left alone" in entry.note
    ]
    assert not more
    assert (again.at - waited.at).total_seconds() >= 2
    assert (job.attempt, job.lost) == (0, 0)
    assert len(faults.chats) == 3


async def has_begun(served: Platform, handle: JobHandle[Any]) -> bool:
    return (await served.job(handle)).claim_no > 0


async def test_no_more_calls_are_in_flight_than_the_limit_over_all_workers(
    served: Platform, faults: FaultServer
) -> None:
    served.env |= {"LLM_MAX_IN_FLIGHT": "3", "LLM_PATIENCE_S": "60"}
    go = asyncio.Event()
    await served.worker(WORKER, processes=2)
    await until(lambda: len(faults.chats) == 2, what="both processes have probed the server")
    faults.most_in_flight = 0
    faults.on_chat(waits_for(go, echoes()))
    handles = [await ask_parts.kiq(f"job-{number}", 1) for number in range(8)]
    await until(lambda: faults.in_flight == 3)
    for handle in handles:
        await until(lambda handle=handle: has_begun(served, handle))  # type: ignore[misc]
    assert faults.in_flight == 3
    go.set()
    assert [await handle.result(LONG_S) for handle in handles] == [[f"job-{n} 0"] for n in range(8)]
    assert faults.most_in_flight == 3


async def test_cancelling_a_job_closes_its_request(served: Platform, faults: FaultServer) -> None:
    faults.on_chat(says("probed"), stalls())
    await served.worker(WORKER)
    handle = await ask_parts.kiq("job", 1)
    await until(lambda: len(faults.chats) == 2)
    await handle.cancel()
    await asyncio.wait_for(faults.chats[1].closed.wait(), 30)
    assert (await served.status_of(handle, Status.CANCELLED)).usage == {}


async def test_a_worker_starts_while_the_server_is_down_and_says_so(served: Platform) -> None:
    served.env |= {"LLM_SERVER_URL": "http://127.0.0.1:1"}
    worker = await served.worker(WORKER)
    await until(lambda: "llm.not_ready" in worker.log)
    handle = await ask_parts.kiq("job", 1)
    job = await served.attempted(handle, 1)
    assert job.error is not None
    assert job.error.type == "LLMConnectionError"
