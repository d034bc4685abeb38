"""Requeueing and purging of dead letters: the choice, the plan, and the result of each."""

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
    from api_shared.cli.commands.dlq.sources import DlqSource, Found
    from api_shared.client.dead_letters.dead_letter import DeadLetter, DeadLetterFilter
    from api_shared.client.dead_letters.requeue import Answer
    from api_shared.job import Job
    from api_shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """The dead letters that a command is to act on."""

    filter: DeadLetterFilter
    queue: str | None
    everything: bool
    limit: int

    @property
    def is_by_keys_alone(self) -> bool:
        from api_shared.client.dead_letters.dead_letter import DeadLetterFilter

        return self.queue is None and self.filter == DeadLetterFilter(keys=self.filter.keys)


@dataclass(frozen=True, slots=True)
class Manner:
    dry_run: bool
    yes: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Result:
    """The result for one key. `outcome` is for programs and never changes."""

    key: str
    queue: str
    outcome: str
    detail: str = ""


NOT_DONE = frozenset({"absent", "refused", "stale"})
NO_DEAD_LETTER = "failed, without its dead letter"


@dataclass(frozen=True, slots=True)
class Todo:
    """The action for one key. `do` raises `UniqueTaken` and `ServerError`."""

    key: str
    queue: str
    what: str
    do: Callable[[], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Plan:
    """`left` are the keys with which nothing can be done."""

    todos: Sequence[Todo]
    left: Sequence[Result]


class Action(Protocol):
    def of(self, found: Found) -> Todo: ...

    async def without_dead_letter(self, key: str, sources: Sequence[DlqSource]) -> Todo | Result:
        """
        The todo of a key that is in no queue. Changes nothing yet. Raises `LedgerUnavailable`.
        """


@dataclass(frozen=True, slots=True)
class Purge:
    def of(self, found: Found) -> Todo:
        return _todo(found, partial(self._purge, found))

    async def without_dead_letter(self, key: str, sources: Sequence[DlqSource]) -> Todo | Result:
        return Result(key, "-", "absent")

    async def _purge(self, found: Found) -> Result:
        await found.source.purge(found.dead_letter)
        return _result(found, "purged")


@dataclass(frozen=True, slots=True)
class Requeue:
    forget_journal: bool

    def of(self, found: Found) -> Todo:
        return _todo(found, partial(self._requeue, found))

    async def without_dead_letter(self, key: str, sources: Sequence[DlqSource]) -> Todo | Result:
        """The todo of a failed job, which is in the ledger even without its dead letter."""
        from api_shared.job import Status

        job = None if key.startswith("raw-") else await sources[0].runtime.ledger.get(key)
        if job is None:
            return Result(key, "-", "absent")
        source = next((s for s in sources if s.runtime.topology.broker == job.broker), None)
        if source is None:
            return Result(key, "-", "absent")
        if job.status is not Status.FAILED:
            return Result(key, job.queue, "stale", _state_text(job))
        return Todo(key, job.queue, NO_DEAD_LETTER, partial(self._requeue_job, job, source))

    async def _requeue(self, found: Found) -> Result:
        from api_shared.client.dead_letters.requeue import Outcome

        answer = await found.source.requeue(found.dead_letter, forget_journal=self.forget_journal)
        is_stale = answer.outcome is Outcome.STALE
        if is_stale and answer.job is not None and _is_copy(found.dead_letter, answer.job):
            await found.source.purge(found.dead_letter)
            return _result(found, "purged", f"a copy: {_state_text(answer.job)}")
        return _result(found, answer.outcome.value, _words(answer))

    async def _requeue_job(self, job: Job, source: DlqSource) -> Result:
        from api_shared.client.dead_letters.requeue import requeue_job

        try:
            answer = await requeue_job(job.id, source.runtime, forget_journal=self.forget_journal)
        except JobNotFound:  # it has expired since it was read
            return Result(job.id, "-", "absent")
        return Result(job.id, job.queue, answer.outcome.value, _words(answer))


def act(verb: str, choice: Choice, manner: Manner, action: Action) -> None:
    """
    Plan, ask and act. Raises `InvalidOption`, and `typer.Exit` if something could not be done.
    """
    if choice.is_by_keys_alone and not choice.filter.keys and not choice.everything:
        raise InvalidOption("--all", False, f"give keys or a filter, or --all to {verb} all")
    ask = not manner.yes and not manner.dry_run
    if ask and not sys.stdin.isatty():
        raise InvalidOption(
            "--yes", False, "there is no terminal to ask on: give --yes, or --dry-run to look"
        )

    async def main(settings: Settings) -> tuple[list[Result], ServerError | None]:
        from api_shared.cli.commands.dlq.sources import dlq_sources_of

        async with dlq_sources_of(settings, choice.queue) as sources:
            plan = await plan_of(choice, sources, action)
            if manner.dry_run:
                would = [Result(e.key, e.queue, f"would_{verb}", e.what) for e in plan.todos]
                return [*would, *plan.left], None
            if plan.todos and ask and not await _asked(f"{verb} {_counted(plan.todos)}?"):
                say("nothing was done")
                raise typer.Exit(ExitCode.INTERRUPTED)
            return await carry_out(plan)

    results, failure = run(main)
    _print_results(results, manner.as_json)
    if len(results) >= choice.limit:
        say(f"there may be more than --limit {choice.limit}")
    if failure is not None:
        raise failure
    if any(each.outcome in NOT_DONE for each in results):
        raise typer.Exit(FINDINGS)


async def plan_of(choice: Choice, sources: Sequence[DlqSource], action: Action) -> Plan:
    """
    The plan for the chosen dead letters, as they are now. Changes nothing.

    A job without its dead letter is chosen by its id alone: no filter applies to a dead letter that
    does not exist, and one behind the limit was not read.
    """
    from api_shared.cli.commands.dlq.sources import gather

    found = await gather(sources, choice.filter, limit=choice.limit)
    todos = [action.of(each) for each in found]
    missing = sorted(choice.filter.keys - {each.key for each in todos})
    if not choice.is_by_keys_alone:
        return Plan(todos, [Result(key, "-", "absent", "none that matches") for key in missing])
    room = choice.limit - len(found)
    others = [await action.without_dead_letter(key, sources) for key in missing[:room]]
    left = [each for each in others if isinstance(each, Result)]
    left += [Result(key, "-", "absent", "not looked for: --limit") for key in missing[room:]]
    return Plan([*todos, *(each for each in others if isinstance(each, Todo))], left)


async def carry_out(plan: Plan) -> tuple[list[Result], ServerError | None]:
    """Carry out the plan. A server's error ends it; what was done until then stays done."""
    results: list[Result] = []
    for todo in plan.todos:
        try:
            results.append(await todo.do())
        except UniqueTaken as error:
            results.append(Result(todo.key, todo.queue, "refused", str(error)))
        except ServerError as error:
            return results, error
    return [*results, *plan.left], None


def _is_copy(dead_letter: DeadLetter, job: Job) -> bool:
    """Whether another dead letter of the same round has been requeued since this one was read."""
    from api_shared.client.dead_letters.dead_letter import Kind, has_ended

    return dead_letter.kind is Kind.FAILED and not has_ended(job, dead_letter.headers)


def _todo(found: Found, do: Callable[[], Awaitable[Result]]) -> Todo:
    dead_letter = found.dead_letter
    return Todo(dead_letter.key, dead_letter.message.queue.name, dead_letter.kind.value, do)


def _result(found: Found, outcome: str, detail: str = "") -> Result:
    return Result(found.dead_letter.key, found.dead_letter.message.queue.name, outcome, detail)


def _words(answer: Answer) -> str:
    from api_shared.client.dead_letters.requeue import Outcome

    if answer.job is None:
        return ""
    if answer.outcome is Outcome.STALE:
        return _state_text(answer.job)
    return f"round {answer.job.round}"


def _state_text(job: Job) -> str:
    return f"its job is {job.status}, round {job.round}"


def _counted(todos: Sequence[Todo]) -> str:
    """`12 dead letters (taskiq 10, critical 2) and 1 failed job without a dead letter`."""
    queues = Counter(each.queue for each in todos if each.what != NO_DEAD_LETTER)
    count = queues.total()
    words = ", ".join(f"{queue} {number}" for queue, number in queues.most_common())
    parts = [f"{count} dead letter{'' if count == 1 else 's'} ({words})"] if count else []
    if alone := len(todos) - count:
        parts.append(f"{alone} failed job{'' if alone == 1 else 's'} without a dead letter")
    return " and ".join(parts)


async def _asked(question: str) -> bool:
    """Ask on a terminal; the event loop goes on, so that connections stay open."""
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


def _print_results(results: Sequence[Result], as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in results])
    elif results:
        columns = ("key", "queue", "outcome", "detail")
        rows = [(each.key, each.queue, each.outcome, each.detail) for each in results]
        print_table(columns, rows)
        outcomes = Counter(each.outcome for each in results)
        say(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    else:
        say("no such dead letters")
