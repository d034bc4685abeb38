"""From a contract's schedule to its definition, and from a definition to the job of a tick."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog

from api_shared.client.contract import Contract
from api_shared.client.kiq import take_in
from api_shared.client.new_job import new_job
from api_shared.client.options import KiqOptions
from api_shared.client.runtime import Runtime
from api_shared.client.submission import Submission
from api_shared.errors import InvalidOption
from api_shared.job import Job, Status, new_job_id
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import Insert
from api_shared.schedules.planning import carried_out
from api_shared.schedules.schedule import Definition, Schedule, ScheduleRecord, tick_id
from api_shared.settings import Settings
from api_shared.transport.topology import Topology

log = structlog.get_logger()

KEPT_BEYOND_CATCH_UP = timedelta(hours=1)
"""How long the job of a tick is kept after nobody can want to fire it any more."""


def definitions_of(
    contracts: Iterable[Contract[Any, Any]], topology: Topology, settings: Settings
) -> list[Definition]:
    """Of all schedules that these contracts carry. Raises `UsageError`."""
    found: dict[str, Definition] = {}
    for contract in contracts:
        for schedule, args in contract.schedules(settings):
            options = KiqOptions(
                priority=schedule.priority, owner=schedule.owner, labels=schedule.labels
            )
            submission = Submission(contract, args, options)
            definition = definition_of(
                schedule, schedule.name or contract.name, submission, topology, settings
            )
            if other := found.get(definition.name):
                wanted = f"another name than the schedule of {other.task!r}: Schedule(name=...)"
                raise InvalidOption(f"{contract.name}.schedule", definition.name, wanted)
            found[definition.name] = definition
    return list(found.values())


def definition_of(
    schedule: Schedule,
    name: str,
    submission: Submission[Any, Any],
    topology: Topology,
    settings: Settings,
) -> Definition:
    """
    What `submission` asks for, to be done again and again; of overlap the schedule says, and no
    unique key. Raises `UsageError`.
    """
    job = new_job(submission, topology, settings).job
    when = schedule.when
    return Definition(
        name=name,
        broker=job.broker,
        task=job.task,
        queue=job.queue,
        args_json=job.args_json,
        cron=when.cron,
        every_s=when.every_s,
        zone=when.zone,
        missed=schedule.missed,
        overlap=schedule.overlap,
        catch_up_s=max(1, round(schedule.catch_up.total_seconds())),
        priority=job.priority,
        owner=job.owner,
        labels=job.labels,
    )


async def fire(definition: Definition, planned: datetime, runtime: Runtime) -> bool:
    """Kiq a tick; False: it had been kiqed before. Raises `ServerError`."""
    labels = {
        **definition.labels,
        "schedule": definition.name,
        "planned_at": planned.isoformat(),
    }
    job = _job_of(
        definition,
        id=tick_id(definition.name, planned),
        status=Status.QUEUED,
        accepted_at=planned,
        labels=labels,
        keep_until=planned + definition.catch_up + KEPT_BEYOND_CATCH_UP,
    )
    look_in = NowPlus(runtime.settings.republish_after_s)
    return (await take_in(Insert(job, look_in), runtime)).by_us


async def carry_out(record: ScheduleRecord, runtime: Runtime) -> None:
    """
    Kiq its pending ticks, all at once: they share a write. Raises the first error, when the others
    are through.
    """
    firing = (fire(record.definition, planned, runtime) for planned in record.pending)
    for planned, fired in zip(
        record.pending, await asyncio.gather(*firing, return_exceptions=True), strict=True
    ):
        if isinstance(fired, BaseException):
            raise fired
        if fired:
            log.info("tick.fired", schedule=record.name, planned_at=planned.isoformat())
    await runtime.ledger.schedules.save(carried_out(record))


async def run_now(definition: Definition, now: datetime, runtime: Runtime) -> Job:
    """
    Kiq the schedule's task once, out of turn: a job with an id of its own, published by the next
    dispatcher that looks. Raises `ServerError`.
    """
    labels = {**definition.labels, "schedule": definition.name}
    job = _job_of(
        definition, id=new_job_id(), status=Status.SCHEDULED, accepted_at=now, labels=labels
    )
    return (await take_in(Insert(job, NowPlus(0)), runtime)).job


def _job_of(definition: Definition, **fields: Any) -> Job:
    return Job(
        task=definition.task,
        broker=definition.broker,
        queue=definition.queue,
        args_json=definition.args_json,
        priority=definition.priority,
        owner=definition.owner,
        seq=1,
        **fields,
    )
