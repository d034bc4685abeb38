"""A schedule source of taskiq (for `task.schedule_by_cron(source, ...)`) in the ledger."""

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
    The schedules of a started broker, which its workers fire.

    A schedule by time is a scheduled job. One by cron or interval stays until it is removed
    (`unschedule`, `delete_schedule`, `kiq cron remove`). `taskiq scheduler` is not needed, and does
    nothing with this source, so that no schedule fires twice. As with taskiq, runs may overlap.
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
        """The schedules that a call has made, and the scheduled jobs (the last 1,000)."""
        ledger, name = self._broker.runtime.ledger, self._broker.name
        records = await ledger.schedules.find(name)
        scheduled = JobFilter(status=Status.SCHEDULED, broker=name)
        jobs = await ledger.find(scheduled, limit=MOST_LISTED)
        regular = [_as_taskiq(record.definition) for record in records if not record.declared]
        return regular + [_job_as_taskiq(job) for job in jobs]

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """
        Add a schedule.

        Raises `UnknownTask`, `InvalidArguments`, `InvalidOption`, `ServerError`.
        """
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
        ours = Schedule(when, missed=self._missed, overlap=self._overlap, catch_up=self._catch_up)
        runtime = self._broker.runtime
        definition = definition_of(
            ours, schedule.schedule_id, submission, runtime.topology, runtime.settings
        )
        await put_schedule(
            definition, runtime.ledger.schedules, partial(carry_out, runtime=runtime)
        )

    async def delete_schedule(self, schedule_id: str) -> None:
        """Remove a schedule, or cancel a scheduled job that has not begun. Ignores unknown ids."""
        runtime = self._broker.runtime
        try:
            await remove_schedule(schedule_id, runtime.ledger.schedules)
        except UnknownSchedule:
            retention_s = runtime.settings.retention_s
            change = cancel_waiting(_job_id_of(schedule_id), retention_s=retention_s)
            if (job := await runtime.ledger.change(change)) is not None:
                runtime.notifier.publish(status_event(job))

    def pre_send(self, task: ScheduledTask) -> None:
        """Cancel what `taskiq scheduler` is about to send: the workers fire the schedules."""
        raise ScheduledTaskCancelledError

    async def _at_time(self, schedule: ScheduledTask, submission: Submission[Any, Any]) -> None:
        """
        Kiq a scheduled job. A naive time is UTC, as for taskiq. A task id of the caller becomes the
        schedule's id.
        """
        assert schedule.time is not None  # noqa: S101 - by the caller
        if schedule.task_id is not None:
            schedule.schedule_id = schedule.task_id
        at = schedule.time if schedule.time.tzinfo else schedule.time.replace(tzinfo=UTC)
        options = replace(submission.options, at=at, delay=None)
        await self._broker.enqueue(submission.contract, submission.args, options)


def _job_id_of(schedule_id: str) -> str:
    """The job id of a schedule's id: the same one, or a hash of an id that is no job id."""
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
