"""A call waits a little for its turn; else its job comes again, and says what it waits for."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from api_shared.errors import Snooze
from fixtures.doubles import until
from workers_general.llm.admission import Limits, LocalAdmission
from workers_general.llm.errors import LLMServerError, RateLimitError
from workers_general.llm.rate_gate import question, turn

SERVER = "http://llm"


class Seconds:
    """The door's clock, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def door(clock: Seconds) -> LocalAdmission:
    limits = Limits(in_flight=4, per_minute=None, lease_s=30, longest_closed_s=600)
    return LocalAdmission(limits, clock=clock)


async def call(door: LocalAdmission, error: Exception | None = None) -> None:
    async with turn(door, SERVER, patience_s=0, rng=Random(1)):
        if error is not None:
            raise error


async def calls_at_once(door: LocalAdmission) -> int:
    """How many of five calls get a turn while the others hold theirs."""
    inside, go = 0, asyncio.Event()

    async def hold() -> None:
        nonlocal inside
        async with turn(door, SERVER, patience_s=0, rng=Random(1)):
            inside += 1
            await go.wait()
            raise LLMServerError(SERVER, "no call of these goes well")

    tasks = [asyncio.create_task(hold()) for _ in range(5)]
    await until(lambda: inside + sum(task.done() for task in tasks) == 5)
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return inside


@pytest.mark.parametrize("said_s", [30.0, None])
async def test_a_rate_limit_becomes_a_snooze_that_outlasts_the_gate(
    door: LocalAdmission, said_s: float | None
) -> None:
    with pytest.raises(Snooze, match="again in") as snoozed:
        await call(door, RateLimitError(SERVER, 429, said_s))
    assert snoozed.value.why == f"{SERVER} asked to be left alone"
    assert (said_s or 2) <= snoozed.value.delay_s <= (said_s or 2) * 1.25
    with pytest.raises(Snooze):
        await call(door)


async def test_a_gate_that_opens_lets_ever_more_through_while_calls_go_well(
    door: LocalAdmission, clock: Seconds
) -> None:
    assert await calls_at_once(door) == 4
    with pytest.raises(Snooze):
        await call(door, RateLimitError(SERVER, 429, 30))
    clock.now += 31
    assert await calls_at_once(door) == 1
    await call(door)
    assert await calls_at_once(door) == 2
    await call(door)
    assert await calls_at_once(door) == 4


async def test_a_server_that_refuses_again_and_again_is_left_alone_for_longer(
    door: LocalAdmission, clock: Seconds
) -> None:
    waits_s = []
    for _ in range(4):
        waits_s.append(await door.close_gate(SERVER, None))
        clock.now += waits_s[-1]
    assert waits_s == [2, 4, 8, 16]
    await call(door)
    assert await door.close_gate(SERVER, None) == 2, "a call that went well ends the doubling"


async def test_a_place_is_given_back_whatever_the_call_raises(door: LocalAdmission) -> None:
    for _ in range(10):
        with pytest.raises(LLMServerError):
            await call(door, LLMServerError(SERVER, "broken"))
    assert await calls_at_once(door) == 4


async def test_a_call_that_finds_no_place_says_which_limit_it_met(door: LocalAdmission) -> None:
    for place in "abcd":
        assert await door.enter(SERVER, place) is None
    with pytest.raises(Snooze) as snoozed:
        await call(door)
    assert snoozed.value.why == f"{SERVER} has its LLM_MAX_IN_FLIGHT=4 calls"


async def test_a_call_waits_with_patience(door: LocalAdmission) -> None:
    for place in "abcd":
        assert await door.enter(SERVER, place) is None

    async def wait() -> None:
        async with turn(door, SERVER, patience_s=60, rng=Random(1)):
            return

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await door.leave(SERVER, "a", went_well=False)
    await asyncio.wait_for(waiting, 30)


async def test_a_question_spends_neither_rate_nor_place_and_heeds_the_gate(
    clock: Seconds,
) -> None:
    limits = Limits(in_flight=1, per_minute=1, lease_s=30, longest_closed_s=600)
    door = LocalAdmission(limits, clock=clock)

    async def ask(error: Exception | None = None) -> None:
        async with question(door, SERVER, patience_s=0, rng=Random(1)):
            if error is not None:
                raise error

    for _ in range(3):
        await ask()
    await call(door)
    with pytest.raises(Snooze) as no_rate:
        await call(door)
    assert no_rate.value.why == f"{SERVER} has its LLM_REQUESTS_PER_MINUTE"
    await ask()
    with pytest.raises(Snooze) as refused:
        await ask(RateLimitError(SERVER, 429, 30))
    assert refused.value.why == f"{SERVER} asked to be left alone"
    clock.now += 29
    with pytest.raises(Snooze):
        await ask()
    clock.now += 2
    await ask()
