"""`kiq show`, `kiq list`, `kiq cancel`: jobs as the ledger has them. RabbitMQ may be away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from api_shared.cli.completion import broker_names, queue_names, statuses, task_names
from api_shared.cli.connections import backing_of, ledger_of, run
from api_shared.cli.output import (
    AsJson,
    print_fields,
    print_json,
    print_line,
    print_table,
    say,
)
from api_shared.cli.times import between, now, since
from api_shared.errors import InvalidOption

if TYPE_CHECKING:
    from api_shared.job import Job
    from api_shared.ledger import WorkerInfo
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


def show(
    job_id: JobId,
    args: Annotated[bool, typer.Option("--args", help="Its arguments: may be secret.")] = False,
    result: Annotated[bool, typer.Option("--result", help="Its result: may be secret.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Of the last attempt that failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell all that the ledger knows of a job, and what it waits for."""

    async def main(settings: Settings) -> tuple[Job, list[WorkerInfo]]:
        from api_shared.errors import JobNotFound
        from api_shared.job import parse_job_id

        async with ledger_of(settings) as ledger:
            job = await ledger.get(parse_job_id(job_id))
            if job is None:
                raise JobNotFound(job_id)
            return job, await ledger.workers()

    job, workers = run(main)
    from api_shared.cli import job_text

    if as_json:
        fields = job_text.as_json(job, with_args=args, with_result=result, with_traceback=traceback)
        print_json({**fields, "waits": job_text.standing(job, workers, now()) or None})
        return
    print_fields(job_text.fields_of(job, workers, now(), with_args=args, with_result=result))
    if traceback and job.error is not None:
        print_line("\n" + (job.error.traceback.strip() or "no traceback was kept"))
    print_line("")
    print_table(("history", "at", "claim", "worker", "note"), job_text.history_rows(job))


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
        from api_shared.ledger import JobFilter

        known = [each.value for each in Status]
        if status is not None and status not in known:
            raise InvalidOption("--status", status, f"one of {', '.join(known)}")
        wanted = JobFilter(
            None if status is None else Status(status), task, queue, owner, broker, correlation_id
        )
        async with ledger_of(settings) as ledger:
            last = None
            if before is not None:
                last = await ledger.get(parse_job_id(before))
                if last is None:
                    raise JobNotFound(before)
            return await ledger.find(wanted, limit=limit, before=last)

    jobs = run(main)
    from api_shared.cli import job_text

    if as_json:
        print_json([job_text.as_json(job) for job in jobs])
    elif jobs:
        at = now()
        columns = ("id", "status", "task", "queue", "owner", "accepted", "ran", "error")
        print_table(columns, [_row(job, since(job.accepted_at, at)) for job in jobs])
    else:
        say("no such jobs")
    if len(jobs) == limit:
        say(f"older ones: --before {jobs[-1].id}")


def _row(job: Job, accepted: str) -> tuple[str, ...]:
    return (
        job.id,
        job.status.value,
        job.task,
        job.queue,
        job.owner or "-",
        accepted,
        between(job.started_at, job.ended_at),
        job.error.reason.value if job.error else "",
    )


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """
    Stop a job wherever it is; prints what came of it.

    cancelled: it had not begun. requested: it runs, and its worker stops it (kiq watch ID tells
    when). too_late: it had ended before.
    """

    async def main(settings: Settings) -> str:
        from api_shared.handle import cancel_job
        from api_shared.job import parse_job_id

        async with backing_of(settings) as backing:
            return (await cancel_job(parse_job_id(job_id), backing)).value

    answer = run(main)
    if as_json:
        print_json({"job_id": job_id.lower(), "answer": answer})
    else:
        print_line(answer)
