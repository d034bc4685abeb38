"""Taskiq's schedules in the ledger: what `task.schedule_by_cron(source, ...)` takes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, timedelta
from functools import partial
from typing import Any

from bson import ObjectId
from taskiq import ScheduledTask, ScheduleSource
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.message import TaskiqMessage

from api_shared.client.job_broker import JobBroker
from api_shared.client.periodic import carry_out, definition_of
from api_shared.client.submission import Submission, submission_of
from api_shared.errors import InvalidJobId
from api_shared.job import Job, Status, parse_job_id
from api_shared.ledger.protocol import JobFilter
from api_shared.ledger.transitions import cancel_waiting
from api_shared.notifier.events import status_event
from api_shared.schedules.cron import timing_from_taskiq
from api_shared.schedules.schedule import Definition, Missed, Overlap, Schedule
from api_shared.schedules.store import UnknownSchedule, put_schedule, remove_schedule

MOST_LISTED = 1000


class LedgerScheduleSource(ScheduleSource):
    """
    Schedules of a started broker, fired by its workers.

    By time: a scheduled job. By cron or interval: a schedule that stays until it is removed
    (`unschedule`, `delete_schedule`, `kiq cron remove`). `taskiq scheduler` is not needed, and does
    nothing with this source: no schedule fires twice. As with taskiq, runs may overlap.
    """

    def __init__(
        self,
        broker: JobBroker,
        *,
        missed: Missed = Missed.ONCE,
        overlap: Overlap = Overlap.ALLOW,
        catch_up: timedelta = timedelta(days=1),
    ) -> None:
        self._broker = broker
        self._missed = missed
        self._overlap = overlap
        self._catch_up = catch_up

    async def get_schedules(self) -> list[ScheduledTask]:
        """The schedules that were made by a call, and the scheduled jobs (the last 1,000)."""
        ledger, name = self._broker.runtime.ledger, self._broker.name
        records = await ledger.schedules.find(name)
        wanted = JobFilter(status=Status.SCHEDULED, broker=name)
        jobs = await ledger.find(wanted, limit=MOST_LISTED)
        regular = [_as_taskiq(record.definition) for record in records if not record.declared]
        return regular + [_job_as_taskiq(job) for job in jobs]

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Raises `UnknownTask`, `InvalidArguments`, `InvalidOption`, `ServerError`."""
        message = TaskiqMessage(
            task_id=schedule.task_id or _job_id_of(schedule.schedule_id),
            task_name=schedule.task_name,
            labels=schedule.labels,
            args=schedule.args,
            kwargs=schedule.kwargs,
        )
        submission = submission_of(message, self._broker.contract(schedule.task_name))
        if schedule.time is not None:
            await self._at_time(schedule, submission)
            return
        when = timing_from_taskiq(
            cron=schedule.cron, cron_offset=schedule.cron_offset, interval=schedule.interval
        )
        wish = Schedule(when, missed=self._missed, overlap=self._overlap, catch_up=self._catch_up)
        runtime = self._broker.runtime
        definition = definition_of(
            wish, schedule.schedule_id, submission, runtime.topology, runtime.settings
        )
        await put_schedule(
            definition, runtime.ledger.schedules, partial(carry_out, runtime=runtime)
        )

    async def delete_schedule(self, schedule_id: str) -> None:
        """A scheduled job is cancelled while it has not begun; an unknown id is no error."""
        runtime = self._broker.runtime
        try:
            await remove_schedule(schedule_id, runtime.ledger.schedules)
        except UnknownSchedule:
            retention_s = runtime.settings.retention_s
            change = cancel_waiting(_job_id_of(schedule_id), retention_s=retention_s)
            if (job := await runtime.ledger.change(change)) is not None:
                runtime.notifier.publish(status_event(job))

    def pre_send(self, task: ScheduledTask) -> None:
        """`taskiq scheduler` asks before it sends: the workers do it."""
        raise ScheduledTaskCancelledError

    async def _at_time(self, schedule: ScheduledTask, submission: Submission[Any, Any]) -> None:
        """A naive time is UTC, as for taskiq. With a task id of its own, that is the schedule's."""
        assert schedule.time is not None  # noqa: S101 - by the caller
        if schedule.task_id is not None:
            schedule.schedule_id = schedule.task_id
        at = schedule.time if schedule.time.tzinfo else schedule.time.replace(tzinfo=UTC)
        options = replace(submission.options, at=at, delay=None)
        await self._broker.enqueue(submission.contract, submission.args, options)


def _job_id_of(schedule_id: str) -> str:
    """Taskiq's schedule ids are job ids here; one of a caller's own is hashed to one."""
    try:
        return parse_job_id(schedule_id)
    except InvalidJobId:
        return str(ObjectId(hashlib.sha256(schedule_id.encode()).digest()[:12]))


def _as_taskiq(definition: Definition) -> ScheduledTask:
    zone = definition.timing.zone
    return ScheduledTask(
        task_name=definition.task,
        labels=dict(definition.labels),
        args=[],
        kwargs=json.loads(definition.args_json),
        schedule_id=definition.name,
        cron=definition.cron,
        cron_offset=None if zone == "UTC" else zone,
        interval=definition.every_s,
    )


def _job_as_taskiq(job: Job) -> ScheduledTask:
    return ScheduledTask(
        task_name=job.task,
        labels=dict(job.labels),
        args=[],
        kwargs=job.args,
        task_id=job.id,
        schedule_id=job.id,
        time=job.due_at,
    )
