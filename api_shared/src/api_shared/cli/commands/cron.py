"""`kiq cron`: schedules and their runs. RabbitMQ may be away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from api_shared.cli.connections import ledger_of, run, runtime_of
from api_shared.cli.durations import clock, now, since
from api_shared.cli.output import AsJson, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from api_shared.job import Job, Status
    from api_shared.ledger.protocol import Ledger
    from api_shared.schedules.schedule import ScheduleRecord
    from api_shared.settings import Settings

cron_app = typer.Typer(help="Schedules: list them, run one now, pause and resume one.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="One of kiq cron list.")]


@cron_app.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """
    List the schedules with their last and next run.

    missed: the policy for ticks that fell due while no worker ran. overlap: the policy for a tick
    while the previous run has not ended. A schedule is stopped when no worker declares it any
    more.
    """

    async def main(settings: Settings) -> list[tuple[ScheduleRecord, Status | None]]:
        async with ledger_of(settings) as ledger:
            found = await ledger.schedules.find()
            return [(record, await _last_status(record, ledger)) for record in found]

    rows = run(main)
    if as_json:
        print_json([_as_json(record, status) for record, status in rows])
    elif rows:
        columns = ("name", "state", "when", "zone", "last", "next", "missed", "overlap", "task")
        print_table(columns, [_row(record, status) for record, status in rows])
    else:
        say("no schedules: a worker declares those of its contracts when it starts")


@cron_app.command("run")
def run_schedule(name: Name, as_json: AsJson = False) -> None:
    """
    Run a schedule's task once, now, and print the job's id.

    It is an ordinary job: the schedule's own ticks come as they would, paused or not.
    """

    async def main(settings: Settings) -> Job:
        from api_shared.client.periodic import run_now
        from api_shared.schedules.store import find_schedule

        async with runtime_of(settings) as runtime:
            record = await find_schedule(name, runtime.ledger.schedules)
            return await run_now(record.definition, record.now, runtime)

    job = run(main)
    if as_json:
        print_json({"name": name, "job_id": job.id})
    else:
        print_line(job.id)


@cron_app.command()
def pause(name: Name, as_json: AsJson = False) -> None:
    """Pause a schedule until it is resumed, also over restarts and new releases."""

    async def main(settings: Settings) -> ScheduleRecord:
        from api_shared.schedules.store import pause_schedule

        async with ledger_of(settings) as ledger:
            return await pause_schedule(name, ledger.schedules)

    _print_change(run(main), as_json)


@cron_app.command()
def resume(name: Name, as_json: AsJson = False) -> None:
    """Let a schedule tick again from now on: ticks of the pause are not caught up."""

    async def main(settings: Settings) -> ScheduleRecord:
        from api_shared.schedules.store import resume_schedule

        async with ledger_of(settings) as ledger:
            return await resume_schedule(name, ledger.schedules)

    _print_change(run(main), as_json)


@cron_app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """
    Remove a schedule that was made by a call (schedule_by_cron), or that is stopped.

    One that a contract declares is taken out of the contract, or paused.
    """

    async def main(settings: Settings) -> None:
        from api_shared.schedules.store import remove_schedule

        async with ledger_of(settings) as ledger:
            await remove_schedule(name, ledger.schedules)

    run(main)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        print_line("removed")


async def _last_status(record: ScheduleRecord, ledger: Ledger) -> Status | None:
    job = None if record.last_job_id is None else await ledger.get(record.last_job_id)
    return None if job is None else job.status


def _print_change(record: ScheduleRecord, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(record, None))
        return
    state = _state(record)
    soon = f"; next {clock(record.next_at)}" if state == "active" and record.next_at else ""
    print_line(f"{state}{soon}")


def _state(record: ScheduleRecord) -> str:
    from api_shared.schedules.planning import is_in_force

    if record.paused:
        return "paused"
    if not is_in_force(record):
        return "stopped"
    return "waiting" if record.is_waiting else "active"


def _row(record: ScheduleRecord, status: Status | None) -> tuple[str, ...]:
    at, definition, state = now(), record.definition, _state(record)
    last = since(record.last_tick_at, at)
    return (
        record.name,
        state,
        str(definition.timing),
        definition.zone,
        f"{last}, {status.value}" if status is not None else last,
        since(record.next_at, at) if state in ("active", "waiting") else "-",
        definition.missed.value,
        definition.overlap.value,
        definition.task,
    )


def _as_json(record: ScheduleRecord, status: Status | None) -> dict[str, Any]:
    """A schedule as JSON, without its arguments: they may be secret."""
    definition = record.definition
    return {
        "name": record.name,
        "state": _state(record),
        "task": definition.task,
        "broker": definition.broker,
        "queue": definition.queue,
        "cron": definition.cron,
        "every_s": definition.every_s,
        "zone": definition.zone,
        "missed": definition.missed,
        "overlap": definition.overlap,
        "catch_up_s": definition.catch_up_s,
        "declared_by": "contract" if record.declared else "call",
        "declared_at": max((each.seen_at for each in record.declared), default=None),
        "last_tick_at": record.last_tick_at,
        "last_job_id": record.last_job_id,
        "last_status": status,
        "next_at": record.next_at,
    }
