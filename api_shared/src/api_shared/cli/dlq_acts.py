"""Requeueing and purging: what is meant, what is asked, what was done with each."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import typer

from api_shared.cli.connections import run
from api_shared.cli.exits import FINDINGS, ExitCode
from api_shared.cli.output import print_json, print_table, say
from api_shared.errors import InvalidOption, JobNotFound, ServerError, UniqueTaken

if TYPE_CHECKING:
    from api_shared.cli.dead_letters import Desk, Found
    from api_shared.dlq import Answer, LetterFilter
    from api_shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant."""

    wanted: LetterFilter
    queue: str | None
    everything: bool
    limit: int


@dataclass(frozen=True, slots=True)
class Manner:
    dry_run: bool
    yes: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one key. `outcome` is for programs and never changes."""

    key: str
    queue: str
    outcome: str
    detail: str = ""


NOT_DONE = frozenset({"absent", "refused", "stale"})


class Act(Protocol):
    async def do(self, found: Found) -> Done:
        """Raises `UniqueTaken`, `ServerError`."""

    async def without_letter(self, key: str, desks: Sequence[Desk]) -> Done:
        """For a key that is in no queue that was read."""


@dataclass(frozen=True, slots=True)
class Purge:
    async def do(self, found: Found) -> Done:
        await found.desk.purge(found.letter)
        return _done(found, "purged")

    async def without_letter(self, key: str, desks: Sequence[Desk]) -> Done:
        return Done(key, "-", "absent")


@dataclass(frozen=True, slots=True)
class Requeue:
    forget_journal: bool

    async def do(self, found: Found) -> Done:
        answer = await found.desk.requeue(found.letter, forget_journal=self.forget_journal)
        return _done(found, answer.outcome.value, _words(answer))

    async def without_letter(self, key: str, desks: Sequence[Desk]) -> Done:
        """A failed job is in the ledger, whatever became of its dead letter."""
        from api_shared.dlq import requeue_job
        from api_shared.job import parse_job_id

        if key.startswith("raw-"):
            return Done(key, "-", "absent")
        try:
            job = await desks[0].backing.ledger.get(parse_job_id(key))
            desk = next(
                (each for each in desks if job and each.backing.topology.broker == job.broker), None
            )
            if desk is None:
                return Done(key, "-", "absent")
            answer = await requeue_job(key, desk.backing, forget_journal=self.forget_journal)
        except JobNotFound:
            return Done(key, "-", "absent")
        queue = answer.job.queue if answer.job else "-"
        return Done(key, queue, answer.outcome.value, _words(answer))


def act(verb: str, choice: Choice, manner: Manner, how: Act) -> None:
    """Raises `InvalidOption`, and `typer.Exit` where something could not be done."""
    from api_shared.dlq import LetterFilter

    if choice.wanted == LetterFilter() and choice.queue is None and not choice.everything:
        raise InvalidOption("--all", False, f"name keys, a filter, or say --all to {verb} all")
    ask = not manner.yes and not manner.dry_run
    if ask and not sys.stdin.isatty():
        raise InvalidOption("--yes", False, "nobody can be asked here: --yes, or look: --dry-run")

    async def main(settings: Settings) -> tuple[list[Done], ServerError | None]:
        from api_shared.cli.dead_letters import desks_of, gather

        async with desks_of(settings, choice.queue) as desks:
            found = await gather(desks, choice.wanted, limit=choice.limit)
            if manner.dry_run:
                return [
                    _done(each, f"would_{verb}", each.letter.kind.value) for each in found
                ], None
            if found and ask and not await _asked(f"{verb} {_counted(found)}?"):
                say("nothing was done")
                raise typer.Exit(ExitCode.INTERRUPTED)
            done: list[Done] = []
            failure = await _all(found, desks, choice, how, done)
            return done, failure

    done, failure = run(main)
    _tell(done, manner.as_json)
    if len(done) >= choice.limit:
        say(f"there may be more than --limit {choice.limit}")
    if failure is not None:
        raise failure
    if any(each.outcome in NOT_DONE for each in done):
        raise typer.Exit(FINDINGS)


async def _all(
    found: Sequence[Found], desks: Sequence[Desk], choice: Choice, how: Act, done: list[Done]
) -> ServerError | None:
    """Fills `done`; what a server did ends it, and what was done until then stays done."""
    missing = choice.wanted.keys - {each.letter.key for each in found}
    try:
        for each in found:
            done.append(await _one(each, how))  # noqa: PERF401 - kept when a later one raises
        for key in sorted(missing):
            done.append(await how.without_letter(key, desks))  # noqa: PERF401
    except ServerError as error:
        return error
    return None


async def _one(found: Found, how: Act) -> Done:
    try:
        return await how.do(found)
    except UniqueTaken as error:
        return _done(found, "refused", str(error))


def _done(found: Found, outcome: str, detail: str = "") -> Done:
    return Done(found.letter.key, found.letter.message.queue.name, outcome, detail)


def _words(answer: Answer) -> str:
    from api_shared.dlq import Outcome

    if answer.job is None:
        return ""
    if answer.outcome is Outcome.STALE:
        return f"its job is {answer.job.status}, round {answer.job.round}"
    return f"round {answer.job.round}"


def _counted(found: Sequence[Found]) -> str:
    """`12 dead letters (taskiq 10, critical 2)`."""
    queues = Counter(each.letter.message.queue.name for each in found)
    words = ", ".join(f"{queue} {count}" for queue, count in queues.most_common())
    return f"{len(found)} dead letter{'' if len(found) == 1 else 's'} ({words})"


async def _asked(question: str) -> bool:
    """On a terminal; the event loop goes on, so that connections are kept meanwhile."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[str] = loop.create_future()
    say(f"{question} [y/N]")
    loop.add_reader(sys.stdin, _answer, answered)
    try:
        return (await answered).strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin)


def _answer(answered: asyncio.Future[str]) -> None:
    if not answered.done():
        answered.set_result(sys.stdin.readline())


def _tell(done: Sequence[Done], as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in done])
    elif done:
        columns = ("key", "queue", "outcome", "detail")
        rows = [(each.key, each.queue, each.outcome, each.detail) for each in done]
        print_table(columns, rows)
        outcomes = Counter(each.outcome for each in done)
        say(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    else:
        say("no such dead letters")
