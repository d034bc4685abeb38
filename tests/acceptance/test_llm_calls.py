"""Model calls of real worker processes: a server's wishes, a cancel, a server that is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

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
    faults.on_chat(says("probed"), says("probed"), refuses(429, BUSY, Retry_After="20"), echoes())
    await served.worker(WORKER, processes=2)
    await until(lambda: len(faults.chats) == 2, what="both processes have probed the server")
    first = await ask_parts.kiq("first", 1)
    waits = await served.status_of(first, Status.RETRYING)
    entry = waits.history[-1]
    assert f"{faults.url} asked to be left alone" in entry.note
    assert waits.due_at is not None
    assert (waits.due_at - entry.at).total_seconds() > 10
    asked = len(faults.chats)
    others = [await ask_parts.kiq(f"other-{number}", 1) for number in range(6)]
    for other in others:
        waits = await served.status_of(other, Status.RETRYING)
        assert "asked to be left alone" in waits.history[-1].note
    assert len(faults.chats) == asked, "nobody has asked again"
    assert await first.result(LONG_S) == ["first 0"]
    assert [await other.result(LONG_S) for other in others] == [[f"other-{n} 0"] for n in range(6)]
    jobs = [await served.job(handle) for handle in (first, *others)]
    assert {(job.attempt, job.lost) for job in jobs} == {(0, 0)}
    assert len(faults.chats) == asked + 7, "each was asked once more"


async def test_no_more_calls_are_in_flight_than_the_limit_over_all_workers(
    served: Platform, faults: FaultServer
) -> None:
    served.env |= {"LLM_MAX_IN_FLIGHT": "3", "LLM_PATIENCE_S": "30"}
    go = asyncio.Event()
    await served.worker(WORKER, processes=2)
    await until(lambda: len(faults.chats) == 2, what="both processes have probed the server")
    faults.most_in_flight = 0
    faults.on_chat(waits_for(go, echoes()))
    handles = [await ask_parts.kiq(f"job-{number}", 1) for number in range(8)]
    await until(lambda: faults.in_flight == 3)
    for handle in handles:
        await served.status_of(handle, Status.PROCESSING)
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
    job = await served.status_of(handle, Status.RETRYING, Status.FAILED)
    assert job.error is not None
    assert job.error.type == "LLMConnectionError"
    await handle.cancel()
