"""`kiq verify`: the promises, checked against the ledger and the queues."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from api_shared.cli.connections import BROKERS, ledger_of, run
from api_shared.cli.durations import now, parse_duration, parse_time
from api_shared.cli.exit_codes import FINDINGS, ExitCode
from api_shared.cli.output import AsJson, print_json, print_table, say
from api_shared.errors import InvalidOption, ServerError

if TYPE_CHECKING:
    from api_shared.ledger.audit import Audit, Scope
    from api_shared.settings import Settings

EPILOG = """
Examples:

kiq verify --since 24h

kiq verify --correlation-id import-7 --json | jq .lost

kiq verify --since 2030-01-31T08:00:00+01:00 --until 2030-01-31T09:00:00+01:00
"""

LINES = {
    "accepted": "accepted",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "open": "still open",
    "lost": "lost",
    "ended_twice": "ended twice",
    "late_writes_refused": "late writes refused",
    "ran_again": "bodies run more than once",
}

MEANINGS = {
    "stranded": "open, but without a time at which a dispatcher would act on it",
    "overdue": "due, but no live dispatcher has acted on it",
    "no_dead_letter": "failed, and its dead letter is neither confirmed nor going to be published",
    "vanished": "accepted, but without a record",
    "ended_twice": "two ends in one round: kiq show has its history",
}


def verify(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Accepted since: a time, or an age (24h).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Accepted before.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="The jobs of one run.")] = None,
    as_json: AsJson = False,
) -> None:
    """
    Count what became of jobs, and look for broken promises: a job that was lost, or ended twice.

    Jobs whose records have expired are not counted. bodies run more than once: claimed again, for
    a retry or a snooze too. Ends with 1 if anything was lost or ended twice.
    """
    from api_shared.ledger.audit import Scope

    scope = Scope(
        None if since is None else _when("--since", since),
        None if until is None else _when("--until", until),
        correlation_id,
    )
    audit, queues, failure = run(lambda settings: _look(settings, scope))
    if as_json:
        print_json({**asdict(audit), "queues": queues})
    else:
        figures = asdict(audit)
        print_table(("jobs", ""), [(text, f"{figures[name]:,}") for name, text in LINES.items()])
        if queues is not None:
            words = f"{queues['ready']:,} ready, {queues['dead']:,} in the dead-letter queues"
            say(f"messages in RabbitMQ: {words}")
        for finding in audit.findings:
            say(f"job {finding.job_id}: {finding.broken}: {MEANINGS[finding.broken]}")
    if failure is not None:
        say(f"kiq: {failure}; queued jobs wait for it and do not count as lost")
    if not audit.is_sound:
        raise typer.Exit(FINDINGS)
    if failure is not None:
        raise typer.Exit(ExitCode.UNREACHABLE)


async def _look(
    settings: Settings, scope: Scope
) -> tuple[Audit, dict[str, int] | None, ServerError | None]:
    from api_shared.ledger.verify import OVERDUE_S
    from api_shared.ledger.verify import verify as count

    queues, failure = None, None
    try:
        queues = await _depths(settings)
    except ServerError as error:
        failure = error
    async with ledger_of(settings) as ledger:
        overdue_s = None if failure else max(OVERDUE_S, 4 * settings.lease_s)
        audit = await count(ledger, scope, overdue_s=overdue_s, alive_within_s=settings.lease_s)
        return audit, queues, failure


async def _depths(settings: Settings) -> dict[str, int]:
    """The messages that no consumer holds, of all queues together."""
    from api_shared.cli.rabbitmq import depth_of, rabbitmq_of
    from api_shared.transport.topology import topology_of

    depths = {"ready": 0, "dead": 0}
    async with rabbitmq_of(settings) as connection:
        for broker in BROKERS:
            for queue in topology_of(broker, settings).queues:
                for kind, name in (("ready", queue.name), ("dead", queue.dead_letter_queue)):
                    found = await depth_of(connection, name)
                    depths[kind] += found.ready if found else 0
    return depths


def _when(option: str, text: str) -> datetime:
    """The time of a text that is a time, or an age. Raises `InvalidOption`."""
    try:
        return now() - parse_duration(option, text)
    except InvalidOption:
        return parse_time(option, text)
