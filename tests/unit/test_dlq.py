"""Dead letters: kinds, filters, and the order in which one is put back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api_shared.client.dead_letters.dead_letter import DeadLetterFilter, Kind
from api_shared.client.dead_letters.requeue import Outcome, requeue_job
from api_shared.errors import JobNotFound, LedgerUnavailable, UniqueTaken
from api_shared.job import Status, UniqueScope, new_job_id
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import Fail, Insert
from api_shared.ledger.transitions import requeue
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.message import encode
from fixtures.dead_letters import ERROR, World
from fixtures.doubles import START
from fixtures.ledgers import a_job, claimed, inserted


@pytest.fixture
def world() -> World:
    return World()


async def test_each_kind_is_recognized(world: World) -> None:
    failed = await world.failed()
    gone_on = await world.failed()
    await world.ledger.change(requeue(gone_on, republish_after_s=30, note=""))
    stranger = json.loads(encode(failed)) | {"task_name": "another.task"}
    dead_letters = {
        Kind.FAILED: await world.dead_letter_of(failed),
        Kind.STALE: await world.dead_letter_of(gone_on),
        Kind.UNRECORDED: await world.dead_letter_of(a_job()),
        Kind.GARBAGE: await world.dead_letter(b"\xff"),
    }
    assert {kind: dead_letter.kind for kind, dead_letter in dead_letters.items()} == {
        kind: kind for kind in Kind
    }
    assert dead_letters[Kind.FAILED].key == failed.id
    assert dead_letters[Kind.GARBAGE].key == (await world.dead_letter(b"\xff")).key != "raw-"
    assert (await world.dead_letter(json.dumps(stranger).encode())).kind is Kind.GARBAGE


async def test_a_filter_takes_what_matches_in_every_field(world: World) -> None:
    dead_letter = await world.dead_letter_of(await world.failed(owner="ann"))
    hour = timedelta(hours=1)
    for wanted in (
        DeadLetterFilter(),
        DeadLetterFilter(keys=frozenset({dead_letter.key, "other"})),
        DeadLetterFilter(task="text.summarize", owner="ann", reason="time_limit", kind=Kind.FAILED),
        DeadLetterFilter(died_before=START + hour, died_after=START - hour),
    ):
        assert wanted.matches(dead_letter), wanted
    for wanted in (
        DeadLetterFilter(keys=frozenset({new_job_id()})),
        DeadLetterFilter(task="other", owner="ann"),
        DeadLetterFilter(owner="bob"),
        DeadLetterFilter(reason="error"),
        DeadLetterFilter(kind=Kind.STALE),
        DeadLetterFilter(died_before=START - hour),
        DeadLetterFilter(died_after=START + hour),
    ):
        assert not wanted.matches(dead_letter), wanted
    undated = replace(
        dead_letter, kind=Kind.GARBAGE, message=replace(dead_letter.message, dead_lettered_at=None)
    )
    assert not DeadLetterFilter(died_before=START + hour).matches(undated)


async def test_a_failed_job_is_queued_then_published_and_its_letter_goes_last(
    world: World,
) -> None:
    job = await world.failed()
    dead_letter = await world.dead_letter_of(job)
    assert await world.put_back(dead_letter) is Outcome.REQUEUED
    again = await world.read(job.id)
    assert (again.status, again.round, again.expires_at) == (Status.QUEUED, 2, None)
    assert again.history[-1].note == "requeued after time_limit: too long"
    assert [each.id for each in world.publisher.published] == [job.id]
    assert world.reader.removed == [(dead_letter.message, 1)]


async def test_a_requeue_holds_while_rabbitmq_does_not_take_the_publish(world: World) -> None:
    job = await world.failed()
    world.publisher.error = RabbitUnavailable("not connected")
    assert await world.put_back(await world.dead_letter_of(job)) is Outcome.REQUEUED
    assert (await world.read(job.id)).due_at is not None, "the dispatcher publishes it"


async def test_a_letter_stays_while_the_ledger_does_not_take_the_round(world: World) -> None:
    dead_letter = await world.dead_letter_of(await world.failed())
    world.ledger.fail.add("change")
    with pytest.raises(LedgerUnavailable):
        await world.put_back(dead_letter)
    assert (world.reader.removed, world.publisher.published) == ([], [])


async def test_the_second_copy_of_a_letter_is_stale_and_stays(world: World) -> None:
    dead_letter = await world.dead_letter_of(await world.failed())
    assert await world.put_back(dead_letter) is Outcome.REQUEUED
    assert await world.put_back(dead_letter) is Outcome.STALE
    assert len(world.reader.removed) == 1


async def test_a_letter_of_an_older_round_does_not_requeue_the_later_one(world: World) -> None:
    job = await world.failed()
    dead_letter = await world.dead_letter_of(job)
    assert (await requeue_job(job.id, world.runtime)).outcome is Outcome.REQUEUED
    held, token = await claimed(world.ledger, job.id)
    await world.ledger.apply(Fail(job.id, token, held.seq + 1, ERROR, 5))
    assert await world.put_back(dead_letter) is Outcome.STALE
    assert (await world.read(job.id)).round == 2


@pytest.mark.parametrize("expires", ["before the look", "after the look"])
async def test_a_letter_without_a_record_goes_back_with_its_headers(
    world: World, expires: str
) -> None:
    job = await world.failed()
    dead_letter = await world.dead_letter_of(job)
    world.clock.advance(1001)
    if expires == "before the look":
        dead_letter = await world.dead_letter_of(job)
    assert await world.put_back(dead_letter) is Outcome.PUT_BACK
    ((queue, body, headers),) = world.publisher.back
    assert (queue, body, headers["x-dead-round"]) == ("taskiq", encode(job), 1)
    assert world.reader.removed == [(dead_letter.message, 1)]


async def test_garbage_that_rabbitmq_does_not_take_back_stays(world: World) -> None:
    dead_letter = await world.dead_letter(b"\xff")
    world.publisher.error = RabbitUnavailable("not connected")
    with pytest.raises(RabbitUnavailable):
        await world.put_back(dead_letter)
    assert world.reader.removed == []


async def test_a_letter_whose_unique_twin_is_open_stays_and_names_it(world: World) -> None:
    unique: dict[str, Any] = {
        "unique_key": "k",
        "unique_scope": UniqueScope.OPEN,
        "unique_held": True,
    }
    dead_letter = await world.dead_letter_of(await world.failed(**unique))
    twin = await inserted(world.ledger, **unique)
    with pytest.raises(UniqueTaken, match=twin.id):
        await world.put_back(dead_letter)
    assert world.reader.removed == []


async def test_a_twin_whose_period_is_over_is_in_nobodys_way(world: World) -> None:
    unique: dict[str, Any] = {
        "unique_key": "k",
        "unique_scope": UniqueScope.PERIOD,
        "unique_held": True,
    }
    dead_letter = await world.dead_letter_of(await world.failed(**unique))
    twin = a_job(**unique)
    await world.ledger.apply(Insert(twin, NowPlus(30), unique_for_s=60))
    with pytest.raises(UniqueTaken, match=twin.id):
        await world.put_back(dead_letter)
    world.clock.advance(61)
    assert await world.put_back(dead_letter) is Outcome.REQUEUED


async def test_an_unknown_job_cannot_be_requeued(world: World) -> None:
    with pytest.raises(JobNotFound):
        await requeue_job(new_job_id(), world.runtime)
    open_job = await inserted(world.ledger)
    assert (await requeue_job(open_job.id, world.runtime)).outcome is Outcome.STALE
