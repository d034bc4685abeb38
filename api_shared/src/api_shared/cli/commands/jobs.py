"""
`kiq show`, `list`, `cancel` and `reschedule`: jobs in the ledger. RabbitMQ may be away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from api_shared.cli.completion import broker_names, queue_names, statuses, task_names
from api_shared.cli.connections import ledger_of, run, runtime_of
from api_shared.cli.durations import between, now, parse_duration, parse_time, since
from api_shared.cli.output import (
    AsJson,
    print_fields,
    print_json,
    print_line,
    print_table,
    say,
)
from api_shared.errors import InvalidOption, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from api_shared.job import Job
    from api_shared.ledger.protocol import Ledger, WorkerInfo
    from api_shared.settings import Settings

JobId = Annotated[str, typer.Argument(metavar="ID", help="What submit printed.")]

SHOW_EPILOG = """
Examples:

kiq show 692a6f1d9c41b2a7c3d5e8f0 --traceback

kiq show 692a6f1d9c41b2a7c3d5e8f0 --result --json | jq .result
"""

LIST_EPILOG = """
Examples:

kiq list --status failed --task process_data

kiq list --owner ada --limit 100 --json | jq -r '.[].id'
"""


RESCHEDULE_EPILOG = """
Examples:

kiq reschedule 692a6f1d9c41b2a7c3d5e8f0 --in 10m

kiq reschedule 692a6f1d9c41b2a7c3d5e8f0 --at 2030-01-31T08:00:00+01:00
"""


def show(
    job_id: JobId,
    args: Annotated[bool, typer.Option("--args", help="Its arguments: may be secret.")] = False,
    result: Annotated[bool, typer.Option("--result", help="Its result: may be secret.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Of the last attempt that failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that the ledger knows of a job, and what it waits for."""

    async def main(settings: Settings) -> tuple[Job, list[WorkerInfo], dict[str, int] | None]:
        from api_shared.errors import JobNotFound
        from api_shared.job import parse_job_id

        async with ledger_of(settings) as ledger:
            job = await ledger.get(parse_job_id(job_id))
            if job is None:
                raise JobNotFound(job_id)
            workers = await ledger.workers(seen_within_s=settings.lease_s)
            return job, workers, await _usage_of(job.owner, ledger)

    job, workers, used = run(main)
    from api_shared.cli import job_text

    if as_json:
        fields = job_text.as_json(job, with_args=args, with_result=result, with_traceback=traceback)
        waits = job_text.waiting_text(job, workers, now()) or None
        print_json({**fields, "owner_usage": used, "waits": waits})
        return
    print_fields(
        job_text.fields_of(
            job, workers, now(), owner_usage=used or {}, with_args=args, with_result=result
        )
    )
    if traceback and job.error is not None:
        print_line("\n" + (job.error.traceback.strip() or "no traceback was kept"))
    print_line("")
    print_table(("history", "at", "claim", "worker", "note"), job_text.history_rows(job))
    if used is None:
        say(f"what the jobs of {job.owner} have used up together could not be counted in time")


async def _usage_of(owner: str | None, ledger: Ledger) -> dict[str, int] | None:
    """The usage of an owner. None: there are so many jobs that the sum takes too long."""
    from api_shared.errors import LedgerUnavailable

    try:
        return {} if owner is None else await ledger.usage_of(owner)
    except LedgerUnavailable:
        return None


def list_jobs(
    status: Annotated[str | None, typer.Option("--status", "-s", autocompletion=statuses)] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", autocompletion=task_names)] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", autocompletion=queue_names)] = None,
    owner: Annotated[str | None, typer.Option("--owner", "-o")] = None,
    broker: Annotated[str | None, typer.Option(autocompletion=broker_names)] = None,
    correlation_id: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000)] = 20,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Only jobs older than this one: the next page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first; all filters must match."""

    async def main(settings: Settings) -> list[Job]:
        from api_shared.errors import JobNotFound
        from api_shared.job import Status, parse_job_id
        from api_shared.ledger.protocol import JobFilter

        known = [each.value for each in Status]
        if status is not None and status not in known:
            raise InvalidOption("--status", status, f"must be one of {', '.join(known)}")
        job_filter = JobFilter(
            None if status is None else Status(status), task, queue, owner, broker, correlation_id
        )
        async with ledger_of(settings) as ledger:
            last = None
            if before is not None:
                last = await ledger.get(parse_job_id(before))
                if last is None:
                    raise JobNotFound(before)
            return await ledger.find(job_filter, limit=limit, before=last)

    jobs = run(main)
    from api_shared.cli import job_text

    if as_json:
        print_json([job_text.as_json(job) for job in jobs])
    elif jobs:
        at = now()
        columns = ("id", "status", "task", "queue", "owner", "accepted", "due", "ran", "note")
        print_table(columns, [_row(job, at) for job in jobs])
    else:
        say("no such jobs")
    if len(jobs) == limit:
        say(f"older ones: --before {jobs[-1].id}")


def _row(job: Job, at: datetime) -> tuple[str, ...]:
    from api_shared.cli.job_text import note_of

    return (
        job.id,
        job.status.value,
        job.task,
        job.queue,
        job.owner or "-",
        since(job.accepted_at, at),
        since(job.due_at, at) if job.is_asleep else "-",
        between(job.started_at, job.ended_at),
        note_of(job),
    )


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """
    Stop a job wherever it is; prints what came of it.

    cancelled: it had not begun. requested: it runs, and its worker stops it (kiq watch ID shows
    when). too_late: it had ended before.
    """

    async def main(settings: Settings) -> str:
        from api_shared.client.follow.handle import cancel_job
        from api_shared.job import parse_job_id

        async with runtime_of(settings) as runtime:
            return (await cancel_job(parse_job_id(job_id), runtime)).value

    answer = run(main)
    if as_json:
        print_json({"job_id": job_id.lower(), "answer": answer})
    else:
        print_line(answer)


def reschedule(
    job_id: JobId,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Its new time: 2030-01-31T08:00:00+01:00.")
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(
            "--in", "--delay", metavar="DURATION", help="From now: 90 (seconds), 10m, 2d."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    Give a job that waits for its time (scheduled or retrying) another; prints what came of it.

    moved: it runs at the new time. started: it is queued or runs already. ended: it had ended
    before.
    """

    async def main(settings: Settings) -> str:
        from api_shared.client.follow.handle import reschedule_job
        from api_shared.job import parse_job_id

        if at is None and delay is None:
            raise UsageError("when? --in DURATION, or --at TIME")
        time = None if at is None else parse_time("--at", at)
        wait = None if delay is None else parse_duration("--in", delay)
        async with runtime_of(settings) as runtime:
            answer = await reschedule_job(parse_job_id(job_id), runtime, at=time, delay=wait)
            return answer.value

    answer = run(main)
    if as_json:
        print_json({"job_id": job_id.lower(), "answer": answer})
    else:
        print_line(answer)
