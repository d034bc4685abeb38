"""A task that runs by itself, each second: no tick of it may be left out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from api_shared.schedules.cron import Every
from api_shared.schedules.schedule import LONGEST_CATCH_UP, Missed, Overlap, Schedule
from api_shared.testing.chaos.load import broker

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
    """Long enough that a worker which runs some is still at it when it is killed."""
    await asyncio.sleep(3)
