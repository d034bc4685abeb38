"""A call waits a little for its slot; else its job comes again later, and says why."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from api_shared.errors import Snooze
from api_shared.testing.waiting import until
from workers_general.llm.errors import LLMServerError, RateLimitError
from workers_general.llm.limits.admission import Limits, LocalAdmission
from workers_general.llm.limits.rate_gate import gated_call, gated_query

SERVER = "http://llm"


class Seconds:
    """The clock of the admission, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def admission(clock: Seconds) -> LocalAdmission:
    limits = Limits(in_flight=4, per_minute=None, lease_s=30, max_closed_s=600)
    return LocalAdmission(limits, clock=clock)


async def call(admission: LocalAdmission, error: Exception | None = None) -> None:
    async with gated_call(admission, SERVER, patience_s=0, rng=Random(1)):
        if error is not None:
            raise error


async def calls_at_once(admission: LocalAdmission) -> int:
    """How many of five calls get a slot while the others hold theirs."""
    inside, go = 0, asyncio.Event()

    async def hold() -> None:
        nonlocal inside
        async with gated_call(admission, SERVER, patience_s=0, rng=Random(1)):
            inside += 1
            await go.wait()
            raise LLMServerError(SERVER, "none of these calls succeeds")

    tasks = [asyncio.create_task(hold()) for _ in range(5)]
    await until(lambda: inside + sum(task.done() for task in tasks) == 5)
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return inside


@pytest.mark.parametrize("retry_after_s", [30.0, None])
async def test_a_rate_limit_becomes_a_snooze_that_outlasts_the_gate(
    admission: LocalAdmission, retry_after_s: float | None
) -> None:
    with pytest.raises(Snooze, match="again in") as snoozed:
        await call(admission, RateLimitError(SERVER, 429, retry_after_s))
    assert snoozed.value.why == f"{SERVER} asked to be left alone"
    assert (retry_after_s or 2) <= snoozed.value.delay_s <= (retry_after_s or 2) * 1.25
    with pytest.raises(Snooze):
        await call(admission)


async def test_a_gate_that_opens_admits_ever_more_while_calls_succeed(
    admission: LocalAdmission, clock: Seconds
) -> None:
    assert await calls_at_once(admission) == 4
    with pytest.raises(Snooze):
        await call(admission, RateLimitError(SERVER, 429, 30))
    clock.now += 31
    assert await calls_at_once(admission) == 1
    await call(admission)
    assert await calls_at_once(admission) == 2
    await call(admission)
    assert await calls_at_once(admission) == 4


async def test_a_server_that_refuses_again_and_again_is_left_alone_for_longer(
    admission: LocalAdmission, clock: Seconds
) -> None:
    waits_s = []
    for _ in range(4):
        waits_s.append(await admission.close_gate(SERVER, None))
        clock.now += waits_s[-1]
    assert waits_s == [2, 4, 8, 16]
    await call(admission)
    assert await admission.close_gate(SERVER, None) == 2, "a call that succeeds ends the doubling"


async def test_a_slot_is_released_whatever_the_call_raises(admission: LocalAdmission) -> None:
    for _ in range(10):
        with pytest.raises(LLMServerError):
            await call(admission, LLMServerError(SERVER, "broken"))
    assert await calls_at_once(admission) == 4


async def test_a_call_that_finds_no_slot_says_which_limit_it_met(admission: LocalAdmission) -> None:
    for slot in "abcd":
        assert await admission.acquire(SERVER, slot) is None
    with pytest.raises(Snooze) as snoozed:
        await call(admission)
    assert snoozed.value.why == f"{SERVER} has reached its LLM_MAX_IN_FLIGHT=4"


async def test_a_call_waits_with_patience(admission: LocalAdmission) -> None:
    for slot in "abcd":
        assert await admission.acquire(SERVER, slot) is None

    async def wait() -> None:
        async with gated_call(admission, SERVER, patience_s=60, rng=Random(1)):
            return

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await admission.release(SERVER, "a", succeeded=False)
    await asyncio.wait_for(waiting, 30)


async def test_a_query_uses_neither_rate_nor_slot_and_respects_the_gate(
    clock: Seconds,
) -> None:
    limits = Limits(in_flight=1, per_minute=1, lease_s=30, max_closed_s=600)
    admission = LocalAdmission(limits, clock=clock)

    async def ask(error: Exception | None = None) -> None:
        async with gated_query(admission, SERVER, patience_s=0, rng=Random(1)):
            if error is not None:
                raise error

    for _ in range(3):
        await ask()
    await call(admission)
    with pytest.raises(Snooze) as no_rate:
        await call(admission)
    assert no_rate.value.why == f"{SERVER} has reached its LLM_REQUESTS_PER_MINUTE"
    await ask()
    with pytest.raises(Snooze) as refusal:
        await ask(RateLimitError(SERVER, 429, 30))
    assert refusal.value.why == f"{SERVER} asked to be left alone"
    clock.now += 29
    with pytest.raises(Snooze):
        await ask()
    clock.now += 2
    await ask()


async def test_calls_that_wait_get_their_slots_in_the_order_in_which_they_came() -> None:
    limits = Limits(in_flight=2, per_minute=None, lease_s=30, max_closed_s=600)
    admission, began = LocalAdmission(limits), list[int]()

    async def one(number: int) -> None:
        async with gated_call(admission, SERVER, patience_s=60, rng=Random(number)):
            began.append(number)
            await asyncio.sleep(0.001 * (number % 3))

    await asyncio.gather(*(one(number) for number in range(20)))
    assert began == list(range(20))


async def test_who_has_waited_in_line_for_long_enough_hears_why_there_is_no_slot(
    admission: LocalAdmission,
) -> None:
    async with admission.lines[SERVER]:  # somebody asks, and does not come to an end
        async with gated_call(admission, SERVER, patience_s=0.01, rng=Random(1)):
            assert await admission.check_gate(SERVER) is None
        await admission.close_gate(SERVER, 30)
        with pytest.raises(Snooze) as snoozed:
            await gated_call(admission, SERVER, patience_s=0.01, rng=Random(1)).__aenter__()
        assert snoozed.value.why == f"{SERVER} asked to be left alone"
