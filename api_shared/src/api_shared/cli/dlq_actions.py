"""Requeueing and purging: what is meant, what is asked, what was done with each."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import typer

from api_shared.cli.connections import run
from api_shared.cli.exit_codes import FINDINGS, ExitCode
from api_shared.cli.output import print_json, print_table, say
from api_shared.errors import InvalidOption, JobNotFound, ServerError, UniqueTaken

if TYPE_CHECKING:
    from api_shared.cli.dlq_sources import DlqSource, Found
    from api_shared.client.dead_letters.dead_letter import DeadLetter, LetterFilter
    from api_shared.client.dead_letters.requeue import Answer
    from api_shared.job import Job
    from api_shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant."""

    wanted: LetterFilter
    queue: str | None
    everything: bool
    limit: int

    @property
    def is_by_keys_alone(self) -> bool:
        from api_shared.client.dead_letters.dead_letter import LetterFilter

        return self.queue is None and self.wanted == LetterFilter(keys=self.wanted.keys)


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
NO_LETTER = "failed, without its dead letter"


@dataclass(frozen=True, slots=True)
class Todo:
    """What is to be done with one key. `do` raises `UniqueTaken`, `ServerError`."""

    key: str
    queue: str
    what: str
    do: Callable[[], Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class Plan:
    """`left` are the keys with which nothing can be done."""

    todos: Sequence[Todo]
    left: Sequence[Done]


class Act(Protocol):
    def of(self, found: Found) -> Todo: ...

    async def without_letter(self, key: str, desks: Sequence[DlqSource]) -> Todo | Done:
        """For a key that is in no queue; changes nothing yet. Raises `LedgerUnavailable`."""


@dataclass(frozen=True, slots=True)
class Purge:
    def of(self, found: Found) -> Todo:
        return _todo(found, partial(self._purge, found))

    async def without_letter(self, key: str, desks: Sequence[DlqSource]) -> Todo | Done:
        return Done(key, "-", "absent")

    async def _purge(self, found: Found) -> Done:
        await found.desk.purge(found.letter)
        return _done(found, "purged")


@dataclass(frozen=True, slots=True)
class Requeue:
    forget_journal: bool

    def of(self, found: Found) -> Todo:
        return _todo(found, partial(self._requeue, found))

    async def without_letter(self, key: str, desks: Sequence[DlqSource]) -> Todo | Done:
        """A failed job is in the ledger, whatever became of its dead letter."""
        from api_shared.job import Status

        job = None if key.startswith("raw-") else await desks[0].runtime.ledger.get(key)
        if job is None:
            return Done(key, "-", "absent")
        desk = next((each for each in desks if each.runtime.topology.broker == job.broker), None)
        if desk is None:
            return Done(key, "-", "absent")
        if job.status is not Status.FAILED:
            return Done(key, job.queue, "stale", _standing(job))
        return Todo(key, job.queue, NO_LETTER, partial(self._requeue_job, job, desk))

    async def _requeue(self, found: Found) -> Done:
        from api_shared.client.dead_letters.requeue import Outcome

        answer = await found.desk.requeue(found.letter, forget_journal=self.forget_journal)
        is_stale = answer.outcome is Outcome.STALE
        if is_stale and answer.job is not None and _is_copy(found.letter, answer.job):
            await found.desk.purge(found.letter)
            return _done(found, "purged", f"a copy: {_standing(answer.job)}")
        return _done(found, answer.outcome.value, _words(answer))

    async def _requeue_job(self, job: Job, desk: DlqSource) -> Done:
        from api_shared.client.dead_letters.requeue import requeue_job

        try:
            answer = await requeue_job(job.id, desk.runtime, forget_journal=self.forget_journal)
        except JobNotFound:  # it has expired since the look
            return Done(job.id, "-", "absent")
        return Done(job.id, job.queue, answer.outcome.value, _words(answer))


def act(verb: str, choice: Choice, manner: Manner, how: Act) -> None:
    """Raises `InvalidOption`, and `typer.Exit` where something could not be done."""
    if choice.is_by_keys_alone and not choice.wanted.keys and not choice.everything:
        raise InvalidOption("--all", False, f"name keys, a filter, or say --all to {verb} all")
    ask = not manner.yes and not manner.dry_run
    if ask and not sys.stdin.isatty():
        raise InvalidOption("--yes", False, "nobody can be asked here: --yes, or look: --dry-run")

    async def main(settings: Settings) -> tuple[list[Done], ServerError | None]:
        from api_shared.cli.dlq_sources import dlq_sources_of

        async with dlq_sources_of(settings, choice.queue) as desks:
            plan = await plan_of(choice, desks, how)
            if manner.dry_run:
                would = [Done(e.key, e.queue, f"would_{verb}", e.what) for e in plan.todos]
                return [*would, *plan.left], None
            if plan.todos and ask and not await _asked(f"{verb} {_counted(plan.todos)}?"):
                say("nothing was done")
                raise typer.Exit(ExitCode.INTERRUPTED)
            return await carry_out(plan)

    done, failure = run(main)
    _tell(done, manner.as_json)
    if len(done) >= choice.limit:
        say(f"there may be more than --limit {choice.limit}")
    if failure is not None:
        raise failure
    if any(each.outcome in NOT_DONE for each in done):
        raise typer.Exit(FINDINGS)


async def plan_of(choice: Choice, desks: Sequence[DlqSource], how: Act) -> Plan:
    """
    What is meant, as it lies there; changes nothing.

    A job without its dead letter is meant by its id alone: no filter can be asked of a letter that
    is not there, and one that lies behind the limit was not seen.
    """
    from api_shared.cli.dlq_sources import gather

    found = await gather(desks, choice.wanted, limit=choice.limit)
    todos = [how.of(each) for each in found]
    missing = sorted(choice.wanted.keys - {each.key for each in todos})
    if not choice.is_by_keys_alone:
        return Plan(todos, [Done(key, "-", "absent", "none that matches") for key in missing])
    room = choice.limit - len(found)
    others = [await how.without_letter(key, desks) for key in missing[:room]]
    left = [each for each in others if isinstance(each, Done)]
    left += [Done(key, "-", "absent", "not looked for: --limit") for key in missing[room:]]
    return Plan([*todos, *(each for each in others if isinstance(each, Todo))], left)


async def carry_out(plan: Plan) -> tuple[list[Done], ServerError | None]:
    """What a server did ends it, and what was done until then stays done."""
    done: list[Done] = []
    for todo in plan.todos:
        try:
            done.append(await todo.do())
        except UniqueTaken as error:
            done.append(Done(todo.key, todo.queue, "refused", str(error)))
        except ServerError as error:
            return done, error
    return [*done, *plan.left], None


def _is_copy(letter: DeadLetter, job: Job) -> bool:
    """Its job had failed at the look, and another letter of that round has been requeued since."""
    from api_shared.client.dead_letters.dead_letter import Kind, has_ended

    return letter.kind is Kind.FAILED and not has_ended(job, letter.mark)


def _todo(found: Found, do: Callable[[], Awaitable[Done]]) -> Todo:
    letter = found.letter
    return Todo(letter.key, letter.message.queue.name, letter.kind.value, do)


def _done(found: Found, outcome: str, detail: str = "") -> Done:
    return Done(found.letter.key, found.letter.message.queue.name, outcome, detail)


def _words(answer: Answer) -> str:
    from api_shared.client.dead_letters.requeue import Outcome

    if answer.job is None:
        return ""
    return _standing(answer.job) if answer.outcome is Outcome.STALE else f"round {answer.job.round}"


def _standing(job: Job) -> str:
    return f"its job is {job.status}, round {job.round}"


def _counted(todos: Sequence[Todo]) -> str:
    """`12 dead letters (taskiq 10, critical 2) and 1 failed job without a dead letter`."""
    queues = Counter(each.queue for each in todos if each.what != NO_LETTER)
    count = queues.total()
    words = ", ".join(f"{queue} {number}" for queue, number in queues.most_common())
    parts = [f"{count} dead letter{'' if count == 1 else 's'} ({words})"] if count else []
    if alone := len(todos) - count:
        parts.append(f"{alone} failed job{'' if alone == 1 else 's'} without a dead letter")
    return " and ".join(parts)


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
