"""Tasks that are cancelled until they have ended."""

from __future__ import annotations

import asyncio

import pytest

from api_shared import cancellation
from api_shared.cancellation import cancel_and_wait


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "AGAIN_S", 0.01)


async def test_a_task_that_swallows_its_first_cancellations_ends_all_the_same() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await cancel_and_wait(task)
    assert (heard, task.done()) == (3, True)


async def test_exceptions_of_the_tasks_are_dropped() -> None:
    async def fails() -> None:
        raise RuntimeError

    failed = asyncio.create_task(fails())
    waiting = asyncio.create_task(asyncio.Event().wait())
    await asyncio.wait({failed})
    await cancel_and_wait(failed, waiting)
    assert waiting.cancelled()


async def test_without_tasks_there_is_nothing_to_wait_for() -> None:
    await cancel_and_wait()
