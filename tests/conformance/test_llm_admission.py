"""One set of rules for admission to a model server: in Redis for all workers, or in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from api_shared.settings import Settings
from api_shared.testing import default_settings
from api_shared.testing.servers import Services
from fixtures.private_valkey import PATIENCE_S, be_patient
from workers_general.llm.limits import admission as admission_module
from workers_general.llm.limits import shared_admission
from workers_general.llm.limits.admission import (
    Admission,
    Limits,
    LocalAdmission,
    Refusal,
    RefusalReason,
    gate_closed_s,
)
from workers_general.llm.limits.shared_admission import SharedAdmission

SERVER = "http://llm"
LIMITS = Limits(in_flight=3, per_minute=None, lease_s=3_000, max_closed_s=6_000)
NO_SLOT = Refusal(RefusalReason.SLOTS, 0)


class Kind(Protocol):
    """An implementation of admission, whose time the test moves: nothing here waits for a clock."""

    def open(self, limits: Limits) -> Admission: ...

    async def pass_time(self, seconds: float) -> None: ...


class Local:
    def __init__(self) -> None:
        self.now = 1_000.0

    def open(self, limits: Limits) -> Admission:
        return LocalAdmission(limits, clock=lambda: self.now)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds


class Shared:
    """Redis's clock cannot be moved: instead every time that it has stored is moved back."""

    def __init__(self, settings: Settings, redis: Any, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._redis = redis
        self._stack = stack

    def open(self, limits: Limits) -> Admission:
        admission = SharedAdmission(self._settings, limits)
        self._stack.push_async_callback(admission.aclose)
        return admission

    async def pass_time(self, seconds: float) -> None:
        ms = round(seconds * 1000)
        redis = self._redis
        async for key in redis.scan_iter(f"{self._settings.redis_prefix}:*"):
            left_ms = await redis.pttl(key)
            if 0 <= left_ms <= ms:
                await redis.delete(key)
                continue
            if left_ms > ms:
                await redis.pexpire(key, left_ms - ms)
            if await redis.type(key) == b"zset":
                for member, score in await redis.zrange(key, 0, -1, withscores=True):
                    await redis.zadd(key, {member: score - ms})
            elif key.endswith(b":next"):
                await redis.set(key, int(await redis.get(key)) - ms, keepttl=True)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each process decides alone, once Redis has not answered for a second."""
    be_patient(monkeypatch)
    monkeypatch.setattr(shared_admission, "DEADLINE_S", PATIENCE_S)


@pytest.fixture
def settings(services: Services) -> Settings:
    return default_settings(
        redis_url=SecretStr(services.redis.url), redis_prefix=f"t{uuid4().hex[:12]}"
    )


@asynccontextmanager
async def shared_kind(settings: Settings) -> AsyncIterator[Shared]:
    async with AsyncExitStack() as stack:
        redis = Redis.from_url(settings.redis_address)
        stack.push_async_callback(redis.aclose)
        yield Shared(settings, redis, stack)


@pytest.fixture(params=["redis", "local"])
async def kind(request: pytest.FixtureRequest) -> AsyncIterator[Kind]:
    if request.param == "local":
        yield Local()
        return
    async with shared_kind(request.getfixturevalue("settings")) as shared:
        yield shared


async def acquired(admission: Admission, slots: str) -> list[Refusal | None]:
    """The answer for each of the slots, whose names are letters."""
    return [await admission.acquire(SERVER, slot) for slot in slots]


async def test_no_more_calls_are_admitted_than_there_are_slots(kind: Kind) -> None:
    admission = kind.open(LIMITS)
    assert await acquired(admission, "abcd") == [None, None, None, NO_SLOT]
    assert await admission.acquire("http://other", "d") is None
    await admission.release(SERVER, "a", succeeded=True)
    assert await acquired(admission, "d") == [None]


async def test_a_slot_that_is_not_renewed_is_free_after_its_lease(kind: Kind) -> None:
    admission = kind.open(replace(LIMITS, in_flight=2))
    assert await acquired(admission, "ab") == [None, None]
    await kind.pass_time(2_000)
    await admission.renew(SERVER, "b")
    assert await acquired(admission, "c") == [NO_SLOT]
    await kind.pass_time(2_000)
    assert await acquired(admission, "c") == [None], "the lease of a has expired"
    await admission.renew(SERVER, "a")
    assert await acquired(admission, "d") == [NO_SLOT], "b was renewed, and a is not taken back"


async def test_a_closed_gate_refuses_all_calls_and_opens_for_few(kind: Kind) -> None:
    admission = kind.open(LIMITS)
    assert await acquired(admission, "a") == [None]
    assert await admission.close_gate(SERVER, 5_000.0) == 5_000.0
    for refusal in (await admission.acquire(SERVER, "b"), await admission.check_gate(SERVER)):
        assert refusal is not None
        assert refusal.reason is RefusalReason.GATE
        assert 0 < refusal.wait_s <= 5_000.0
    await admission.release(SERVER, "a", succeeded=False)
    await kind.pass_time(5_000)
    assert await admission.check_gate(SERVER) is None
    assert await acquired(admission, "bc") == [None, NO_SLOT], "one at first"
    await admission.release(SERVER, "b", succeeded=True)
    assert await acquired(admission, "cde") == [None, None, NO_SLOT], "then two"
    await admission.release(SERVER, "c", succeeded=True)
    assert await acquired(admission, "efg") == [None, None, NO_SLOT], "then all"


async def test_a_call_that_began_before_the_gate_closed_does_not_open_it(kind: Kind) -> None:
    admission = kind.open(LIMITS)
    assert await acquired(admission, "abc") == [None] * 3
    await admission.close_gate(SERVER, 5_000.0)
    for slot in "abc":
        await admission.release(SERVER, slot, succeeded=True)
    assert await admission.check_gate(SERVER) is not None
    await kind.pass_time(5_000)
    assert await acquired(admission, "de") == [None, NO_SLOT], "one at first"


async def test_a_gate_that_several_close_at_once_closes_once(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (admission_module, shared_admission):
        monkeypatch.setattr(module, "FIRST_CLOSED_S", 200.0)
    admission = kind.open(LIMITS)
    waits_s = [await admission.close_gate(SERVER, None) for _ in range(10)]
    assert waits_s == [200.0] * 10, "none of them doubles it"
    assert await admission.close_gate(SERVER, 300) == 300, "a longer time counts"
    assert 50 < await admission.close_gate(SERVER, 50) <= 300, "a shorter one does not"
    await kind.pass_time(300)
    assert await admission.close_gate(SERVER, None) == 400, "the next time it closes for longer"


@pytest.mark.parametrize("now", [2006.498193526, 32745.172941223, 131032.6649891])
async def test_the_time_that_a_gate_closes_is_exact_whatever_the_clock_says(now: float) -> None:
    """For these times `now + 60.0 - now` is more than 60."""
    admission = LocalAdmission(LIMITS, clock=lambda: now)
    assert await admission.close_gate(SERVER, 60.0) == 60.0


async def test_the_time_that_a_server_asks_for_is_bounded(kind: Kind) -> None:
    admission = kind.open(replace(LIMITS, max_closed_s=7))
    assert await admission.close_gate(SERVER, 86_400) == 7.0
    assert await admission.close_gate("http://hasty", 0) == 1.0


async def test_a_rate_is_spread_evenly(kind: Kind) -> None:
    admission = kind.open(replace(LIMITS, in_flight=100, per_minute=1))
    assert await acquired(admission, "a") == [None]
    refusal = await admission.acquire(SERVER, "b")
    assert refusal is not None
    assert refusal.reason is RefusalReason.RATE
    assert 0 < refusal.wait_s <= 60
    await kind.pass_time(60)
    assert await acquired(admission, "b") == [None]


async def test_two_workers_share_the_limits(settings: Settings) -> None:
    async with shared_kind(settings) as shared:
        workers = (shared.open(LIMITS), shared.open(LIMITS))
        answers = await asyncio.gather(
            *(worker.acquire(SERVER, f"{n}{id(worker)}") for n in range(5) for worker in workers)
        )
        assert answers.count(None) == LIMITS.in_flight
        await workers[0].close_gate(SERVER, 3_000)
        refusal = await workers[1].acquire(SERVER, "x")
        assert refusal is not None
        assert refusal.reason is RefusalReason.GATE


async def test_without_redis_each_process_decides_alone() -> None:
    settings = default_settings(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    admission = SharedAdmission(settings, LIMITS)
    try:
        assert await acquired(admission, "abcd") == [None, None, None, NO_SLOT]
        await admission.renew(SERVER, "a")
        await admission.release(SERVER, "a", succeeded=True)
        assert await acquired(admission, "d") == [None]
        assert await admission.close_gate(SERVER, 3_000) == 3_000
        refusal = await admission.acquire(SERVER, "e")
        assert refusal is not None
        assert refusal.reason is RefusalReason.GATE
    finally:
        await admission.aclose()


@pytest.mark.parametrize(
    ("retry_after_s", "strikes", "expected_s"),
    [(None, 1, 2), (None, 2, 4), (None, 50, 60), (10, 9, 10), (0, 1, 1), (1e9, 1, 60)],
)
def test_how_long_a_gate_closes(
    retry_after_s: float | None, strikes: int, expected_s: float
) -> None:
    assert gate_closed_s(retry_after_s, strikes, 60) == expected_s
