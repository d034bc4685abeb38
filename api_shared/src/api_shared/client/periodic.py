"""The definitions of the schedules of contracts, and the jobs of their ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog

from api_shared.client.contract import Contract
from api_shared.client.kiq import insert_and_publish
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
"""How long the job of a tick is kept after the time in which the tick can be fired."""


def definitions_of(
    contracts: Iterable[Contract[Any, Any]], topology: Topology, settings: Settings
) -> list[Definition]:
    """The definitions of all schedules of these contracts. Raises `UsageError`."""
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
                problem = (
                    f"must differ from the name of the schedule of {other.task!r}: "
                    f"pass Schedule(name=...)"
                )
                raise InvalidOption(f"{contract.name}.schedule", definition.name, problem)
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
    The definition of a schedule whose ticks are jobs like that of `submission`.

    No unique key is used: `schedule.overlap` is the policy for runs that overlap. Raises
    `UsageError`.
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
    """Kiq the job of a tick. False: it had been kiqed before. Raises `ServerError`."""
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
    check_in = NowPlus(runtime.settings.republish_after_s)
    return (await insert_and_publish(Insert(job, check_in), runtime)).by_us


async def carry_out(record: ScheduleRecord, runtime: Runtime) -> None:
    """
    Kiq the pending ticks of a schedule, all at once, so that they share a write.

    Raises the first error when all have ended.
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
    Kiq the schedule's task once, now. The job has an id of its own, and a dispatcher publishes it.

    Raises `ServerError`.
    """
    labels = {**definition.labels, "schedule": definition.name}
    job = _job_of(
        definition, id=new_job_id(), status=Status.SCHEDULED, accepted_at=now, labels=labels
    )
    return (await insert_and_publish(Insert(job, NowPlus(0)), runtime)).job


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
