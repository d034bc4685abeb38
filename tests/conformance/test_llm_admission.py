"""A server's door keeps one set of rules: in Redis for all workers, or in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from time import monotonic
from uuid import uuid4

import pytest
from pydantic import SecretStr

from api_shared.settings import Settings
from api_shared.testing import default_settings
from api_shared.testing.servers import Services
from fixtures.private_valkey import PATIENCE_S, be_patient
from fixtures.workers import until
from workers_general.llm import admission as admission_module
from workers_general.llm import shared_admission
from workers_general.llm.admission import Admission, Limits, LocalAdmission, NotNow, Why, closed_s
from workers_general.llm.shared_admission import SharedAdmission

SERVER = "http://llm"
LIMITS = Limits(in_flight=3, per_minute=None, lease_s=30, longest_closed_s=600)

Open = Callable[[Limits], Admission]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each process has its own door, once Redis has not answered for a second."""
    be_patient(monkeypatch)
    monkeypatch.setattr(shared_admission, "DEADLINE_S", PATIENCE_S)


@pytest.fixture
def settings(services: Services) -> Settings:
    return default_settings(
        redis_url=SecretStr(services.redis.url), redis_prefix=f"t{uuid4().hex[:12]}"
    )


@pytest.fixture(params=["redis", "local"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        def open_door(limits: Limits) -> Admission:
            if request.param == "local":
                return LocalAdmission(limits)
            shared = SharedAdmission(request.getfixturevalue("settings"), limits)
            stack.push_async_callback(shared.aclose)
            return shared

        yield open_door


async def test_no_more_come_in_than_there_are_places(door: Open) -> None:
    admission = door(LIMITS)
    assert [await admission.enter(SERVER, name) for name in "abc"] == [None] * 3
    assert await admission.enter(SERVER, "d") == NotNow(Why.PLACES, 0)
    assert await admission.enter("http://other", "d") is None
    await admission.leave(SERVER, "a", went_well=True)
    assert await admission.enter(SERVER, "d") is None


async def test_a_place_that_nobody_keeps_is_free_after_its_lease(door: Open) -> None:
    admission = door(replace(LIMITS, in_flight=2, lease_s=5))
    assert [await admission.enter(SERVER, name) for name in ("dead", "alive")] == [None, None]

    async def free() -> bool:
        await admission.keep(SERVER, "alive")
        return await admission.enter(SERVER, "third") is None

    await until(free, 30)
    await admission.keep(SERVER, "dead")
    assert await admission.enter(SERVER, "fourth") is not None, "two places, and both are taken"


async def test_a_place_that_is_kept_stays_taken(door: Open) -> None:
    lease_s = 5.0
    admission = door(replace(LIMITS, in_flight=1, lease_s=lease_s))
    assert await admission.enter(SERVER, "a") is None
    end = monotonic() + 1.2 * lease_s

    async def outlived() -> bool:
        await admission.keep(SERVER, "a")
        assert await admission.enter(SERVER, "b") is not None
        return monotonic() > end

    await until(outlived, 30)


async def test_a_closed_gate_lets_nobody_in_and_opens_for_few(door: Open) -> None:
    admission = door(LIMITS)
    assert await admission.enter(SERVER, "a") is None
    wait_s = await admission.close_gate(SERVER, 5.0)
    assert 4.5 < wait_s <= 5.0
    refused = await admission.enter(SERVER, "b")
    assert refused is not None
    assert refused.why is Why.GATE
    assert 0 < refused.wait_s <= 5.0
    await admission.leave(SERVER, "a", went_well=False)

    async def opened() -> bool:
        return await admission.enter(SERVER, "b") is None

    await until(opened, 30)
    assert await admission.enter(SERVER, "c") == NotNow(Why.PLACES, 0), "one at first"
    await admission.leave(SERVER, "b", went_well=True)
    assert [await admission.enter(SERVER, name) for name in "cd"] == [None, None]
    assert await admission.enter(SERVER, "e") is not None, "two then"
    await admission.leave(SERVER, "c", went_well=True)
    assert [await admission.enter(SERVER, name) for name in "ef"] == [None, None]


async def test_a_call_that_began_before_the_gate_closed_opens_nothing(door: Open) -> None:
    admission = door(LIMITS)
    assert [await admission.enter(SERVER, name) for name in "abc"] == [None] * 3
    assert await admission.gate(SERVER) is None
    await admission.close_gate(SERVER, 5.0)
    closed = await admission.gate(SERVER)
    assert closed is not None
    assert closed.why is Why.GATE
    assert 0 < closed.wait_s <= 5.0
    for name in "abc":
        await admission.leave(SERVER, name, went_well=True)

    async def opened() -> bool:
        return await admission.gate(SERVER) is None

    await until(opened, 30)
    assert await admission.enter(SERVER, "d") is None
    assert await admission.enter(SERVER, "e") == NotNow(Why.PLACES, 0), "one at first"


async def test_a_gate_that_several_close_at_once_closes_once(
    door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (admission_module, shared_admission):
        monkeypatch.setattr(module, "FIRST_CLOSED_S", 60.0)
    admission = door(LIMITS)
    waits_s = [await admission.close_gate(SERVER, None) for _ in range(10)]
    assert max(waits_s) <= 60.0
    assert await admission.close_gate(SERVER, 300) > 299, "a longer wish counts"
    assert await admission.close_gate(SERVER, 5) > 200, "a shorter one does not"


async def test_a_wish_is_heeded_within_bounds(door: Open) -> None:
    admission = door(replace(LIMITS, longest_closed_s=7))
    assert 6 < await admission.close_gate(SERVER, 86_400) <= 7
    assert 0.5 < await admission.close_gate("http://hasty", 0) <= 1.0


async def test_a_rate_is_spread_evenly(door: Open) -> None:
    admission = door(replace(LIMITS, in_flight=100, per_minute=1))
    assert await admission.enter(SERVER, "a") is None
    refused = await admission.enter(SERVER, "b")
    assert refused is not None
    assert refused.why is Why.RATE
    assert 0 < refused.wait_s <= 60


async def test_two_workers_share_one_door(settings: Settings) -> None:
    one, two = SharedAdmission(settings, LIMITS), SharedAdmission(settings, LIMITS)
    try:
        entered = await asyncio.gather(
            *(worker.enter(SERVER, f"{n}{id(worker)}") for n in range(5) for worker in (one, two))
        )
        assert entered.count(None) == LIMITS.in_flight
        await one.close_gate(SERVER, 60)
        refused = await two.enter(SERVER, "x")
        assert refused is not None
        assert refused.why is Why.GATE
    finally:
        await one.aclose()
        await two.aclose()


async def test_without_redis_each_process_keeps_its_own_door() -> None:
    settings = default_settings(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    admission = SharedAdmission(settings, LIMITS)
    try:
        assert [await admission.enter(SERVER, name) for name in "abc"] == [None] * 3
        assert await admission.enter(SERVER, "d") == NotNow(Why.PLACES, 0)
        await admission.keep(SERVER, "a")
        await admission.leave(SERVER, "a", went_well=True)
        assert await admission.enter(SERVER, "d") is None
        assert await admission.close_gate(SERVER, 5) > 4
        refused = await admission.enter("http://llm", "e")
        assert refused is not None
        assert refused.why is Why.GATE
    finally:
        await admission.aclose()


@pytest.mark.parametrize(
    ("said_s", "strikes", "expected_s"),
    [(None, 1, 2), (None, 2, 4), (None, 50, 60), (10, 9, 10), (0, 1, 1), (1e9, 1, 60)],
)
def test_how_long_a_gate_closes(said_s: float | None, strikes: int, expected_s: float) -> None:
    assert closed_s(said_s, strikes, 60) == expected_s
