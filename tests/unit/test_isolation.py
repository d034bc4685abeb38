"""Occupancy of a process: tasks side by side, or one alone; and tasks that will not stop."""

from __future__ import annotations

import asyncio

import pytest

from api_shared.testing.waiting import until
from api_shared.worker.run import stuck_tasks as stuck
from api_shared.worker.run.isolation import Occupancy
from api_shared.worker.run.stuck_tasks import StuckTasks

LONG_S = 30.0


async def test_a_body_that_is_alone_has_waited_for_the_others_and_lets_none_in() -> None:
    occupancy, entered = Occupancy(), asyncio.Event()

    async def alone() -> bool:
        async with occupancy.alone(within_s=LONG_S) as granted:
            entered.set()
            with occupancy.beside_others() as beside:
                assert not beside
            async with occupancy.alone(within_s=LONG_S) as second:
                assert not second
            return granted

    with occupancy.beside_others() as first, occupancy.beside_others() as second:
        assert first
        assert second
        waiting = asyncio.create_task(alone())
        await asyncio.sleep(0)
        with occupancy.beside_others() as late:
            assert not late, "who wants to be alone must not wait for ever new ones"
        assert not entered.is_set()
    assert await waiting
    with occupancy.beside_others() as after:
        assert after


async def test_who_waits_in_vain_to_be_alone_lets_the_others_in_again() -> None:
    occupancy = Occupancy()
    with occupancy.beside_others():
        async with occupancy.alone(within_s=0.001) as granted:
            assert not granted
        with occupancy.beside_others() as beside:
            assert beside


async def test_who_has_waited_too_long_runs_beside_the_others_and_lets_no_more_in() -> None:
    occupancy = Occupancy()
    with occupancy.beside_others():
        async with occupancy.alone(within_s=0.001, else_beside=True) as granted:
            assert granted
            with occupancy.beside_others() as late:
                assert not late
            async with occupancy.alone(within_s=LONG_S, else_beside=True) as second:
                assert not second, "two of them never run side by side"


async def test_a_body_that_fails_leaves_the_occupancy() -> None:
    occupancy = Occupancy()
    with pytest.raises(RuntimeError):
        async with occupancy.alone(within_s=LONG_S):
            raise RuntimeError
    with pytest.raises(RuntimeError), occupancy.beside_others():
        raise RuntimeError
    async with occupancy.alone(within_s=0.001) as granted:
        assert granted


async def test_a_leftover_is_cancelled_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "AGAIN_S", 0.001)
    cancels = 0

    async def stubborn() -> str:
        nonlocal cancels
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels += 1
                if cancels == 3:
                    return "enough"

    retired: list[bool] = []
    stuck_tasks = StuckTasks(lambda: retired.append(True))
    body = asyncio.create_task(stubborn())
    stuck_tasks.add("a", body)
    assert "a" in stuck_tasks
    assert await body == "enough"
    await until(lambda: "a" not in stuck_tasks)
    assert (cancels, retired) == (3, [])
    stuck_tasks.make_way("a")
    assert retired == [True]
