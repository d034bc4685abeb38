"""The commands of `kiq dlq`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from api_shared.cli.commands.dlq.actions import Choice, Manner, Purge, Requeue, act
from api_shared.cli.completion import queue_names, task_names
from api_shared.cli.connections import run
from api_shared.cli.durations import now, parse_duration
from api_shared.cli.output import AsJson, print_fields, print_json, print_line, print_table, say
from api_shared.errors import DeadLetterNotFound, InvalidJobId, InvalidOption

if TYPE_CHECKING:
    from api_shared.cli.commands.dlq.sources import Found
    from api_shared.client.dead_letters.dead_letter import DeadLetterFilter
    from api_shared.settings import Settings

EPILOG = """
Examples:

kiq dlq list --queue training --reason time_limit

kiq dlq requeue 692a6f1d9c41b2a7c3d5e8f0

kiq dlq requeue --task train_model --older-than 2h --dry-run

kiq dlq purge --kind stale --yes
"""

dlq_app = typer.Typer(
    help="Dead letters: list them, show one, requeue or purge them.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
)

Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY]...", help="Job ids, or raw-... for what is no job."),
]
Queue = Annotated[str | None, typer.Option("--queue", "-q", autocompletion=queue_names)]
Task = Annotated[str | None, typer.Option("--task", "-t", autocompletion=task_names)]
Owner = Annotated[str | None, typer.Option("--owner", "-o")]
ReasonName = Annotated[str | None, typer.Option("--reason", "-r", help="As list shows it.")]
KindName = Annotated[
    str | None, typer.Option("--kind", "-k", help="failed, stale, unrecorded or garbage.")
]
OlderThan = Annotated[str | None, typer.Option(metavar="AGE", help="Died so long ago: 90s, 2h.")]
NewerThan = Annotated[str | None, typer.Option(metavar="AGE", help="Died since: 10m, 1d.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000)]
All = Annotated[bool, typer.Option("--all", help="Without a key or a filter: all dead letters.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dlq_app.command("list")
def list_dead_letters(
    queue: Queue = None,
    task: Task = None,
    owner: Owner = None,
    reason: ReasonName = None,
    kind: KindName = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """
    List dead letters, queue by queue, the oldest first.

    failed: requeue starts its job's next round. stale: its job has gone on since. unrecorded: the
    ledger has no record of its job. garbage: no job at all.
    """
    letters = _filter((), task, owner, reason, kind, older_than, newer_than)

    async def main(settings: Settings) -> list[Found]:
        from api_shared.cli.commands.dlq.sources import dlq_sources_of, gather

        async with dlq_sources_of(settings, queue) as sources:
            return await gather(sources, letters, limit=limit)

    found = [each.dead_letter for each in run(main)]
    from api_shared.cli.commands.dlq import dead_letter_text

    if as_json:
        print_json([dead_letter_text.as_json(each) for each in found])
    elif found:
        rows = [dead_letter_text.row(each, now()) for each in found]
        print_table(dead_letter_text.COLUMNS, rows)
    else:
        say("no such dead letters")
    if len(found) == limit:
        say(f"there may be more: --limit {limit * 10}")


@dlq_app.command("show")
def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As list prints it.")],
    queue: Queue = None,
    args: Annotated[bool, typer.Option("--args", help="Its arguments: may be secret.")] = False,
    body: Annotated[bool, typer.Option("--body", help="Its bytes: may be secret.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Of the attempt that failed last.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show all of a dead letter and of its job: the error, the attempts, the history."""
    letters = _filter((key,))

    async def main(settings: Settings) -> list[Found]:
        from api_shared.cli.commands.dlq.sources import dlq_sources_of, gather

        async with dlq_sources_of(settings, queue) as sources:
            return await gather(sources, letters, limit=1)

    found = run(main)
    if not found:
        raise DeadLetterNotFound(key)
    dead_letter = found[0].dead_letter
    from api_shared.cli import job_text
    from api_shared.cli.commands.dlq import dead_letter_text

    if as_json:
        shown = dead_letter_text.as_json(dead_letter, with_body=body)
        job = dead_letter.job and job_text.as_json(
            dead_letter.job, with_args=args, with_traceback=traceback
        )
        print_json({**shown, "job": job})
        return
    print_fields(dead_letter_text.fields_of(dead_letter, now(), with_args=args, with_body=body))
    if dead_letter.job is None:
        return
    if traceback and dead_letter.job.error is not None:
        print_line("\n" + (dead_letter.job.error.traceback.strip() or "no traceback was kept"))
    print_line("")
    print_table(
        ("history", "at", "claim", "worker", "note"), job_text.history_rows(dead_letter.job)
    )


@dlq_app.command("requeue")
def requeue(
    keys: Keys = None,
    queue: Queue = None,
    task: Task = None,
    owner: Owner = None,
    reason: ReasonName = None,
    kind: KindName = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: All = False,
    forget_journal: Annotated[
        bool, typer.Option("--forget-journal", help="Begin from nothing; usage stays counted.")
    ] = False,
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """
    Requeue dead letters: each job begins its next round, with all attempts, under its id.

    Its history and its journal stay. What is no job, or has no record any more, goes back to its
    queue as it is. A failed job is requeued by its id without its dead
    letter too.
    """
    letters = _filter(keys or (), task, owner, reason, kind, older_than, newer_than)
    act(
        "requeue",
        Choice(letters, queue, everything, limit),
        Manner(dry_run, yes, as_json),
        Requeue(forget_journal),
    )


@dlq_app.command("purge")
def purge(
    keys: Keys = None,
    queue: Queue = None,
    task: Task = None,
    owner: Owner = None,
    reason: ReasonName = None,
    kind: KindName = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: All = False,
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """
    Delete dead letters. The records of their jobs stay in the ledger until they expire: a failed
    job can still be requeued by its id.
    """
    letters = _filter(keys or (), task, owner, reason, kind, older_than, newer_than)
    act("purge", Choice(letters, queue, everything, limit), Manner(dry_run, yes, as_json), Purge())


def _filter(
    keys: Sequence[str],
    task: str | None = None,
    owner: str | None = None,
    reason: str | None = None,
    kind: str | None = None,
    older_than: str | None = None,
    newer_than: str | None = None,
) -> DeadLetterFilter:
    """The filter of these options. Raises `InvalidOption`."""
    from api_shared.client.dead_letters.dead_letter import DeadLetterFilter, Kind

    known = [each.value for each in Kind]
    if kind is not None and kind not in known:
        raise InvalidOption("--kind", kind, f"must be one of {', '.join(known)}")
    return DeadLetterFilter(
        keys=frozenset(map(_key, keys)),
        task=task,
        owner=owner,
        reason=reason,
        kind=None if kind is None else Kind(kind),
        died_before=None
        if older_than is None
        else now() - parse_duration("--older-than", older_than),
        died_after=None
        if newer_than is None
        else now() - parse_duration("--newer-than", newer_than),
    )


def _key(text: str) -> str:
    from api_shared.job import parse_job_id

    key = text.lower()
    if key.startswith("raw-"):
        return key
    try:
        return parse_job_id(key)
    except InvalidJobId:
        raise InvalidOption(
            "KEY", text, "must be a job id, or a key as `kiq dlq list` shows it"
        ) from None
