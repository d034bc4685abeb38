"""`kiq dlq requeue` and `purge`: the plan, and the result of each key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api_shared.cli.commands.dlq.actions import (
    Action,
    Choice,
    Purge,
    Requeue,
    Result,
    carry_out,
    plan_of,
)
from api_shared.cli.commands.dlq.sources import DlqSource
from api_shared.client.dead_letters.dead_letter import DeadLetterFilter, Kind
from api_shared.errors import LedgerUnavailable
from api_shared.job import Job, Status, UniqueScope, new_job_id
from api_shared.transport.topology import QueueSpec
from fixtures.dead_letters import World
from fixtures.ledgers import inserted


class DlqWorld(World):
    """A world with a source of its dead letters."""

    def __init__(self) -> None:
        super().__init__()
        publisher: Any = self.publisher
        self.sources = [DlqSource(self.runtime, publisher, self.reader)]

    async def dead_lettered(self, **fields: Any) -> Job:
        """A failed job whose dead letter is in its queue."""
        job = await self.failed(**fields)
        self.reader.messages.append((await self.dead_letter_of(job)).message)
        return job

    async def plan(
        self, action: Action, *keys: str, limit: int = 1000, **filters: Any
    ) -> list[Any]:
        """What would be done, and with which keys nothing can be."""
        plan = await plan_of(_choice(keys, limit, filters), self.sources, action)
        return [*((todo.key, todo.what) for todo in plan.todos), *plan.left]

    async def do(
        self, action: Action, *keys: str, limit: int = 1000, **filters: Any
    ) -> list[Result]:
        plan = await plan_of(_choice(keys, limit, filters), self.sources, action)
        done, failure = await carry_out(plan)
        assert failure is None
        return done


def _choice(keys: tuple[str, ...], limit: int, filters: dict[str, Any]) -> Choice:
    queue = filters.pop("queue", None)
    return Choice(DeadLetterFilter(keys=frozenset(keys), **filters), queue, False, limit)


REQUEUE = Requeue(forget_journal=False)


@pytest.fixture
def world() -> DlqWorld:
    return DlqWorld()


@pytest.mark.parametrize(
    "filters",
    [{"reason": "lost"}, {"task": "other"}, {"owner": "no"}, {"kind": Kind.STALE}, {"queue": "x"}],
    ids=str,
)
async def test_a_letter_that_its_filter_leaves_out_is_not_requeued_from_the_ledger(
    world: DlqWorld, filters: dict[str, Any]
) -> None:
    job = await (world.failed() if "queue" in filters else world.dead_lettered())
    (done,) = await world.do(REQUEUE, job.id, **filters)
    assert (done.outcome, done.detail) == ("absent", "none that matches")
    assert (await world.read(job.id)).status is Status.FAILED


async def test_a_key_behind_the_limit_is_not_requeued_without_its_letter(world: DlqWorld) -> None:
    jobs = sorted([(await world.dead_lettered()).id for _ in range(2)])
    done = await world.do(REQUEUE, *jobs, limit=1)
    assert sorted(each.outcome for each in done) == ["absent", "requeued"]
    assert len(world.reader.removed) == 1
    left = {each.key for each in done if each.outcome == "absent"}
    assert {job for job in jobs if (await world.read(job)).status is Status.FAILED} == left


async def test_the_plan_names_a_job_without_its_letter_and_changes_nothing(
    world: DlqWorld,
) -> None:
    lone, open_, nobody = (await world.failed()).id, (await inserted(world.ledger)).id, "0" * 24
    left = [
        Result(nobody, "-", "absent"),
        Result(open_, "taskiq", "stale", "its job is queued, round 1"),
    ]
    planned = await world.plan(REQUEUE, lone, open_, nobody)
    assert planned == [(lone, "failed, without its dead letter"), *left]
    assert (await world.read(lone)).status is Status.FAILED
    done = await world.do(REQUEUE, lone, open_, nobody)
    assert done == [Result(lone, "taskiq", "requeued", "round 2"), *left]
    assert await world.plan(Purge(), lone) == [Result(lone, "-", "absent")]


async def test_a_job_whose_unique_twin_is_open_stops_nobody_after_it(world: DlqWorld) -> None:
    unique: dict[str, Any] = {
        "unique_key": "k",
        "unique_scope": UniqueScope.OPEN,
        "unique_held": True,
    }
    refused = await world.failed(**unique)
    twin = await inserted(world.ledger, **unique)
    next_ = await world.failed(id=new_job_id())
    first, second = await world.do(REQUEUE, refused.id, next_.id)
    assert (first.key, first.outcome) == (refused.id, "refused")
    assert twin.id in first.detail
    assert (second.key, second.outcome) == (next_.id, "requeued")


async def test_what_a_server_did_leaves_what_was_done_told(
    world: DlqWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.dead_lettered()
    await world.dead_lettered()
    plan = await plan_of(_choice((), 1000, {}), world.sources, REQUEUE)
    change, calls = world.ledger.change, []

    async def away_from_the_second_on(wanted: Any) -> Job | None:
        calls.append(wanted)
        if len(calls) > 1:
            raise LedgerUnavailable("no primary")
        return await change(wanted)

    monkeypatch.setattr(world.ledger, "change", away_from_the_second_on)
    done, failure = await carry_out(plan)
    assert [each.outcome for each in done] == ["requeued"]
    assert isinstance(failure, LedgerUnavailable)


async def test_a_second_copy_of_a_requeued_letter_goes_with_it(world: DlqWorld) -> None:
    job = await world.dead_lettered()
    world.reader.messages *= 2
    done = await world.do(REQUEUE, job.id)
    assert [(each.outcome, each.detail) for each in done] == [
        ("requeued", "round 2"),
        ("purged", "a copy: its job is queued, round 2"),
    ]
    assert len(world.reader.removed) == 2
    assert len(world.publisher.published) == 1


async def test_a_letter_that_was_stale_before_stays(world: DlqWorld) -> None:
    job = await world.dead_lettered()
    await world.do(REQUEUE, job.id)
    (done,) = await world.do(REQUEUE, job.id)
    assert (done.outcome, len(world.reader.removed)) == ("stale", 1)


async def test_reading_ends_with_the_queue_in_which_the_last_key_was_seen(
    world: DlqWorld,
) -> None:
    job = await world.dead_lettered()
    (dead_letter,) = world.reader.messages
    other = replace(dead_letter, queue=QueueSpec("low", "low"), body=b"garbage")
    world.reader.messages += [replace(dead_letter, body=b"garbage"), dead_letter, other, other]
    plan = await plan_of(_choice((job.id,), 1000, {}), world.sources, Purge())
    assert [todo.key for todo in plan.todos] == [job.id, job.id]
    assert world.reader.walked == 4
