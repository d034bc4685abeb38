"""`kiq dlq requeue` and `purge`: what is meant, and what is told of each key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api_shared.cli.dlq_actions import Act, Choice, Done, Purge, Requeue, carry_out, plan_of
from api_shared.cli.dlq_sources import DlqSource
from api_shared.client.dead_letters.dead_letter import Kind, LetterFilter
from api_shared.errors import LedgerUnavailable
from api_shared.job import Job, Status, UniqueScope, new_job_id
from api_shared.transport.topology import QueueSpec
from fixtures.dead_letters import World
from fixtures.ledgers import inserted


class Counter(World):
    """A world at whose desk one asks for something."""

    def __init__(self) -> None:
        super().__init__()
        publisher: Any = self.publisher
        self.desks = [DlqSource(self.runtime, publisher, self.pile)]

    async def buried(self, **fields: Any) -> Job:
        """A failed job whose dead letter lies in the pile."""
        job = await self.failed(**fields)
        self.pile.messages.append((await self.letter_of(job)).message)
        return job

    async def plan(self, how: Act, *keys: str, limit: int = 1000, **filters: Any) -> list[Any]:
        """What would be done, and with which keys nothing can be."""
        plan = await plan_of(_choice(keys, limit, filters), self.desks, how)
        return [*((todo.key, todo.what) for todo in plan.todos), *plan.left]

    async def do(self, how: Act, *keys: str, limit: int = 1000, **filters: Any) -> list[Done]:
        plan = await plan_of(_choice(keys, limit, filters), self.desks, how)
        done, failure = await carry_out(plan)
        assert failure is None
        return done


def _choice(keys: tuple[str, ...], limit: int, filters: dict[str, Any]) -> Choice:
    queue = filters.pop("queue", None)
    return Choice(LetterFilter(keys=frozenset(keys), **filters), queue, False, limit)


REQUEUE = Requeue(forget_journal=False)


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.mark.parametrize(
    "filters",
    [{"reason": "lost"}, {"task": "other"}, {"owner": "no"}, {"kind": Kind.STALE}, {"queue": "x"}],
    ids=str,
)
async def test_a_letter_that_its_filter_leaves_out_is_not_requeued_from_the_ledger(
    counter: Counter, filters: dict[str, Any]
) -> None:
    job = await (counter.failed() if "queue" in filters else counter.buried())
    (done,) = await counter.do(REQUEUE, job.id, **filters)
    assert (done.outcome, done.detail) == ("absent", "none that matches")
    assert (await counter.read(job.id)).status is Status.FAILED


async def test_a_key_behind_the_limit_is_not_requeued_without_its_letter(counter: Counter) -> None:
    jobs = sorted([(await counter.buried()).id for _ in range(2)])
    done = await counter.do(REQUEUE, *jobs, limit=1)
    assert sorted(each.outcome for each in done) == ["absent", "requeued"]
    assert len(counter.pile.removed) == 1
    left = {each.key for each in done if each.outcome == "absent"}
    assert {job for job in jobs if (await counter.read(job)).status is Status.FAILED} == left


async def test_the_plan_names_a_job_without_its_letter_and_changes_nothing(
    counter: Counter,
) -> None:
    lone, open_, nobody = (await counter.failed()).id, (await inserted(counter.ledger)).id, "0" * 24
    left = [
        Done(nobody, "-", "absent"),
        Done(open_, "taskiq", "stale", "its job is queued, round 1"),
    ]
    planned = await counter.plan(REQUEUE, lone, open_, nobody)
    assert planned == [(lone, "failed, without its dead letter"), *left]
    assert (await counter.read(lone)).status is Status.FAILED
    done = await counter.do(REQUEUE, lone, open_, nobody)
    assert done == [Done(lone, "taskiq", "requeued", "round 2"), *left]
    assert await counter.plan(Purge(), lone) == [Done(lone, "-", "absent")]


async def test_a_job_whose_unique_twin_is_open_stops_nobody_after_it(counter: Counter) -> None:
    unique: dict[str, Any] = {
        "unique_key": "k",
        "unique_scope": UniqueScope.OPEN,
        "unique_held": True,
    }
    refused = await counter.failed(**unique)
    twin = await inserted(counter.ledger, **unique)
    next_ = await counter.failed(id=new_job_id())
    first, second = await counter.do(REQUEUE, refused.id, next_.id)
    assert (first.key, first.outcome) == (refused.id, "refused")
    assert twin.id in first.detail
    assert (second.key, second.outcome) == (next_.id, "requeued")


async def test_what_a_server_did_leaves_what_was_done_told(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counter.buried()
    await counter.buried()
    plan = await plan_of(_choice((), 1000, {}), counter.desks, REQUEUE)
    change, calls = counter.ledger.change, []

    async def away_from_the_second_on(wanted: Any) -> Job | None:
        calls.append(wanted)
        if len(calls) > 1:
            raise LedgerUnavailable("no primary")
        return await change(wanted)

    monkeypatch.setattr(counter.ledger, "change", away_from_the_second_on)
    done, failure = await carry_out(plan)
    assert [each.outcome for each in done] == ["requeued"]
    assert isinstance(failure, LedgerUnavailable)


async def test_a_second_copy_of_a_requeued_letter_goes_with_it(counter: Counter) -> None:
    job = await counter.buried()
    counter.pile.messages *= 2
    done = await counter.do(REQUEUE, job.id)
    assert [(each.outcome, each.detail) for each in done] == [
        ("requeued", "round 2"),
        ("purged", "a copy: its job is queued, round 2"),
    ]
    assert len(counter.pile.removed) == 2
    assert len(counter.publisher.published) == 1


async def test_a_letter_that_was_stale_before_stays(counter: Counter) -> None:
    job = await counter.buried()
    await counter.do(REQUEUE, job.id)
    (done,) = await counter.do(REQUEUE, job.id)
    assert (done.outcome, len(counter.pile.removed)) == ("stale", 1)


async def test_reading_ends_with_the_queue_in_which_the_last_key_was_seen(
    counter: Counter,
) -> None:
    job = await counter.buried()
    (letter,) = counter.pile.messages
    other = replace(letter, queue=QueueSpec("low", "low"), body=b"garbage")
    counter.pile.messages += [replace(letter, body=b"garbage"), letter, other, other]
    plan = await plan_of(_choice((job.id,), 1000, {}), counter.desks, Purge())
    assert [todo.key for todo in plan.todos] == [job.id, job.id]
    assert counter.pile.walked == 4
