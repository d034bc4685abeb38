"""A stop that comes while a delivery and a slot arrive loses neither."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api_shared.worker.intake import Intake


class Arrivals:
    """A consumer and a gate: what arrived, and was not taken."""

    def __init__(self) -> None:
        self.deliveries: asyncio.Queue[str] = asyncio.Queue()
        self.ready: asyncio.Queue[str] = asyncio.Queue()
        self.idle = False

    async def next(self) -> str:
        return await self.deliveries.get()

    def put_back(self, delivery: str) -> None:
        self.deliveries.put_nowait(delivery)

    @property
    def left(self) -> set[str]:
        queues = (self.deliveries, self.ready)
        return {queue.get_nowait() for queue in queues if not queue.empty()}


@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_loses_nothing_whatever_arrives_with_it(turns: int) -> None:
    arrivals = Arrivals()
    both: Any = arrivals
    not_needed: Any = None
    intake = Intake(both, both, {}, not_needed)
    taking: asyncio.Task[Any] = asyncio.create_task(intake._either())
    await asyncio.sleep(0.01)
    arrivals.deliveries.put_nowait("delivery")
    arrivals.ready.put_nowait("served")
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    taken: object = (await asyncio.gather(taking, return_exceptions=True))[0]
    for _ in range(4):
        await asyncio.sleep(0)
    left = arrivals.left
    assert left | ({taken} if isinstance(taken, str) else set()) == {"delivery", "served"}
