"""A general worker whose tasks run by themselves: `taskiq worker jobs.scheduled:broker`."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from api_shared import Cron, Every, JobBroker, Missed, Overlap, Schedule
from api_shared.client.started_brokers import started
from api_shared.worker.engine import attach

_before = dict(started)
broker = JobBroker("general")
started.update(_before)  # tests choose the door: `platform.start(broker)`

SECOND = Every(timedelta(seconds=1))
EVERY_S = int(os.environ.get("SWEEP_EVERY_S", "3600"))
"""Another release has another schedule."""


@broker.task(task_name="beat", schedule=Schedule(SECOND, overlap=Overlap.ALLOW))
async def beat() -> None: ...


@broker.task(
    task_name="count",
    schedule=Schedule(
        SECOND, missed=Missed.ALL, overlap=Overlap.ALLOW, catch_up=timedelta(hours=2)
    ),
)
async def count() -> None: ...


@broker.task(task_name="sweep", schedule=Schedule(Every(timedelta(seconds=EVERY_S))))
async def sweep() -> None: ...


@broker.task(task_name="linger", schedule=Schedule(SECOND, overlap=Overlap.WAIT))
async def linger() -> None:
    await asyncio.sleep(0.5)


@broker.task(task_name="yearly", schedule=Schedule(Cron("0 0 29 2 *", zone="Europe/Berlin")))
async def yearly() -> None: ...


@broker.task(task_name="remind")
async def remind(word: str) -> str:
    return word


attach(broker, tasks=())
