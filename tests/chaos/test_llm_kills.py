"""Workers that call a model are killed: nothing is paid for twice, and no place leaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from fixtures.fault_server import FaultServer, echoes, says, stalls, waits_for
from fixtures.workers import LONG_S, Platform, until
from jobs.broker import broker
from jobs.llm_tasks import ask_parts

PARTS = 10
WORKER = "jobs.llm_main:broker"


@pytest.fixture
async def served(platform: Platform, faults: FaultServer) -> AsyncIterator[Platform]:
    """A platform whose workers call the fault server."""
    platform.env |= {"LLM_SERVER_URL": faults.url, "LLM_MODEL": "m", "LLM_PATIENCE_S": "0.2"}
    await platform.start(broker)
    yield platform


def prompts(faults: FaultServer, name: str) -> Counter[str]:
    """How often the server saw each prompt of a job."""
    return Counter(call.prompt for call in faults.chats if call.prompt.startswith(f"{name} "))


async def test_a_worker_killed_between_two_of_ten_parts_costs_one_call_at_most(
    served: Platform, faults: FaultServer
) -> None:
    go = asyncio.Event()
    faults.on_chat(*[says("probed")], *[echoes("re: ")] * 4, waits_for(go, echoes("re: ")))
    first = await served.worker(WORKER)
    await until(lambda: faults.chats, what="the worker has probed the server")
    handle = await ask_parts.kiq("job", PARTS)
    await until(lambda: sum(prompts(faults, "job").values()) == 5)
    first.kill()
    go.set()
    await served.worker(WORKER)
    assert await handle.result(LONG_S) == [f"re: job {number}" for number in range(PARTS)]
    seen = prompts(faults, "job")
    assert len(seen) == PARTS
    assert sum(seen.values()) <= PARTS + 1
    assert seen - Counter(seen.keys()) == Counter({"job 4": 1}), "the one that was under way"
    job = await served.job(handle)
    assert job.lost == 1
    assert job.usage["llm_calls"] == PARTS


async def test_a_killed_workers_place_at_a_server_is_free_after_its_lease(
    served: Platform, faults: FaultServer
) -> None:
    served.env |= {"LLM_MAX_IN_FLIGHT": "1"}
    faults.on_chat(says("probed"), stalls(), echoes())
    first = await served.worker(WORKER)
    await until(lambda: faults.chats, what="the worker has probed the server")
    await ask_parts.kiq("dead", 1)
    await until(lambda: prompts(faults, "dead"))
    second = await served.worker(WORKER)
    handle = await ask_parts.kiq("alive", 1)
    await served.noted(handle, "LLM_MAX_IN_FLIGHT=1")
    assert not prompts(faults, "alive")
    first.kill()
    assert await handle.result(LONG_S) == ["alive 0"]
    assert (await served.job(handle)).attempt == 0
    assert second.returncode is None
