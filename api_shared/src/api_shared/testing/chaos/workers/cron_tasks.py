"""A task with a schedule of each second, of which no tick may be left out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from api_shared.schedules.cron import Every
from api_shared.schedules.schedule import LONGEST_CATCH_UP, Missed, Overlap, Schedule
from api_shared.testing.chaos.workers.load import broker

NAME = "chaos.tick"


@broker.task(
    task_name=NAME,
    schedule=Schedule(
        Every(timedelta(seconds=1)),
        missed=Missed.ALL,
        overlap=Overlap.ALLOW,
        catch_up=LONGEST_CATCH_UP,
    ),
)
async def tick() -> None:
    """Takes so long that a worker still runs some when it is killed."""
    await asyncio.sleep(3)
