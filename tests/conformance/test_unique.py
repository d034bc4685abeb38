"""One job a key: what every ledger does for a job that is to be unique."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api_shared.errors import UniqueTaken
from api_shared.job import Job, JobError, Reason, Status, UniqueScope, new_job_id
from api_shared.ledger.change import Change, NowPlus
from api_shared.ledger.operations import (
    Cancel,
    Complete,
    Fail,
    Insert,
    Inserted,
    Release,
    Retry,
)
from api_shared.ledger.protocol import Ledger
from api_shared.ledger.transitions import (
    cancel_waiting,
    dead_lettered,
    fail_queued,
    publish_due,
    requeue,
    rescue,
)
from api_shared.ledger.unique_keys import release_lapsed
from fixtures.ledgers import a_job, claimed

OPEN, WAITING, PERIOD = UniqueScope.OPEN, UniqueScope.WAITING, UniqueScope.PERIOD
ERROR = JobError(Reason.ERROR, "ValueError", "it broke")
LAPSED, AHEAD = -1.0, 1000.0


def a_unique_job(scope: UniqueScope = OPEN, key: str = "k", **fields: Any) -> Job:
    return a_job(unique_key=key, unique_scope=scope, unique_held=True, **fields)


async def kiq(
    ledger: Ledger, scope: UniqueScope = OPEN, *, for_s: float | None = None, **fields: Any
) -> Inserted:
    job = a_unique_job(scope, **fields)
    if scope is PERIOD and for_s is None:
        for_s = AHEAD
    return await ledger.apply(Insert(job, NowPlus(30), for_s))


async def first(ledger: Ledger, scope: UniqueScope = OPEN, **options: Any) -> Job:
    inserted = await kiq(ledger, scope, **options)
    assert inserted.by_us
    return inserted.job


async def is_free(ledger: Ledger, key: str = "k") -> bool:
    """Whether the next kiq is accepted as a job of its own; it is taken away again."""
    inserted = await kiq(ledger, key=key)
    if inserted.by_us:
        assert await ledger.change(cancel_waiting(inserted.job.id, retention_s=60))
    return inserted.by_us


async def record(ledger: Ledger, job_id: str) -> Job:
    job = await ledger.get(job_id)
    assert job is not None
    return job


# The second.


@pytest.mark.parametrize("scope", list(UniqueScope))
async def test_the_second_job_of_a_key_is_the_first(ledger: Ledger, scope: UniqueScope) -> None:
    one = await first(ledger, scope)
    two = await kiq(ledger, scope, args_json='{"text": "other"}')
    assert two == Inserted(by_us=False, job=await record(ledger, one.id))
    assert await ledger.count("general") == {"taskiq": {Status.QUEUED: 1}}


async def test_the_same_key_of_another_task_or_another_key_is_another_job(ledger: Ledger) -> None:
    await first(ledger)
    assert (await kiq(ledger, task="text.other")).by_us
    assert (await kiq(ledger, key="K")).by_us
    assert (await ledger.apply(Insert(a_job(), NowPlus(30)))).by_us


async def test_all_that_come_at_once_are_one_job(ledger: Ledger) -> None:
    verdicts = await asyncio.gather(*(kiq(ledger) for _ in range(50)))
    assert sum(verdict.by_us for verdict in verdicts) == 1
    assert len({verdict.job.id for verdict in verdicts}) == 1


async def test_neighbours_of_a_duplicate_are_accepted(ledger: Ledger) -> None:
    one = await first(ledger)
    jobs = [a_job(), a_unique_job(), a_unique_job(key="other"), a_unique_job(), a_job()]
    verdicts = await asyncio.gather(*(ledger.apply(Insert(job, NowPlus(30))) for job in jobs))
    assert [verdict.by_us for verdict in verdicts] == [True, False, True, False, True]
    assert {verdicts[1].job.id, verdicts[3].job.id} == {one.id}


async def test_the_same_insert_twice_is_by_us_twice(ledger: Ledger) -> None:
    insert = Insert(a_unique_job(), NowPlus(30))
    assert [(await ledger.apply(insert)).by_us for _ in range(2)] == [True, True]


async def test_an_insert_sent_again_after_its_key_went_to_another_is_still_its_own(
    ledger: Ledger,
) -> None:
    insert = Insert(a_unique_job(), NowPlus(30))
    assert (await ledger.apply(insert)).by_us
    await ledger.change(cancel_waiting(insert.job.id, retention_s=60))
    other = await first(ledger)
    again = await ledger.apply(insert)
    assert (again.by_us, again.job.id) == (True, insert.job.id)
    assert (await record(ledger, other.id)).unique_held


async def test_what_is_unique_about_a_job_is_kept(ledger: Ledger) -> None:
    one = await record(ledger, (await first(ledger, PERIOD, for_s=60)).id)
    assert (one.unique_key, one.unique_scope, one.unique_held) == ("k", PERIOD, True)
    assert one.unique_until == one.accepted_at + timedelta(seconds=60)
    other = await record(ledger, (await first(ledger, key="$key.\x00 \U0001f98a")).id)
    assert (other.unique_key, other.unique_until) == ("$key.\x00 \U0001f98a", None)


# How long.


async def test_while_waiting_ends_with_the_first_claim_for_good(ledger: Ledger) -> None:
    one = await first(ledger, WAITING)
    assert not await is_free(ledger)
    job, token = await claimed(ledger, one.id)
    two = await first(ledger, WAITING)
    assert await ledger.apply(Retry(one.id, token, job.seq + 1, error=ERROR, delay_s=-1))
    queued = await ledger.change(publish_due(await record(ledger, one.id), republish_after_s=30))
    assert queued is not None
    assert (await kiq(ledger, WAITING)).job.id == two.id
    assert (await record(ledger, one.id)).unique_held is None


async def test_while_open_outlasts_claims_retries_and_losses(ledger: Ledger) -> None:
    one = await first(ledger)
    job, token = await claimed(ledger, one.id)
    assert not await is_free(ledger)
    assert await ledger.apply(Retry(one.id, token, job.seq + 1, error=ERROR, delay_s=-1))
    assert not await is_free(ledger)
    assert await ledger.change(publish_due(await record(ledger, one.id), republish_after_s=30))
    assert not await is_free(ledger)
    job, token = await claimed(ledger, one.id)
    assert await ledger.apply(Release(one.id, token, job.seq + 1, delay_s=-1, why="drain"))
    assert not await is_free(ledger)
    assert await ledger.change(publish_due(await record(ledger, one.id), republish_after_s=30))
    job, _ = await claimed(ledger, one.id, lease_s=-1)
    assert await ledger.change(back(job))
    assert not await is_free(ledger)


def back(job: Job, *, max_lost: int = 3) -> Change:
    return rescue(job, max_lost=max_lost, retry_in_s=5, republish_after_s=30, retention_s=60)


async def end(ledger: Ledger, one: Job, how: str) -> Job:
    if how == "cancelled while it waits":
        await ledger.change(cancel_waiting(one.id, retention_s=60))
    elif how == "failed unclaimed":
        await ledger.change(fail_queued(one, ERROR))
    elif how.startswith("lost"):
        job, _ = await claimed(ledger, one.id, lease_s=-1)
        if how == "lost and cancelled":
            asked = Change(one.id, {}, {"cancel_requested": True})
            job = await ledger.change(asked) or job
        await ledger.change(back(job, max_lost=1))
    else:
        job, token = await claimed(ledger, one.id)
        seq = job.seq + 1
        await ledger.apply(
            {
                "completed": Complete(one.id, token, seq, result_json="1", retention_s=60),
                "failed": Fail(one.id, token, seq, error=ERROR, dead_letter_in_s=0),
                "cancelled": Cancel(one.id, token, seq, retention_s=60),
            }[how]
        )
    ended = await record(ledger, one.id)
    assert ended.status.is_terminal
    return ended


ENDS = [
    "completed",
    "failed",
    "cancelled",
    "cancelled while it waits",
    "failed unclaimed",
    "lost",
    "lost and cancelled",
]


@pytest.mark.parametrize("scope", [WAITING, OPEN])
async def test_whatever_ends_a_job_frees_its_key(ledger: Ledger, scope: UniqueScope) -> None:
    for how in ENDS:
        ended = await end(ledger, await first(ledger, scope, key=how), how)
        assert ended.unique_held is None, how
        assert await is_free(ledger, how), how


async def test_a_period_outlasts_a_completion_and_no_other_end(ledger: Ledger) -> None:
    for how in ENDS:
        await end(ledger, await first(ledger, PERIOD, key=how), how)
        assert await is_free(ledger, how) is (how != "completed"), how


async def test_a_period_that_is_over_is_ended_by_whoever_wants_the_key(ledger: Ledger) -> None:
    one = await first(ledger, PERIOD, for_s=LAPSED)
    two = await kiq(ledger)
    assert not two.by_us, "the ledger frees no key by itself"
    assert await ledger.change(release_lapsed(two.job)) is not None
    assert await ledger.change(release_lapsed(two.job)) is None
    assert await is_free(ledger)
    assert (await record(ledger, one.id)).status is Status.QUEUED


async def test_a_key_is_not_freed_before_its_time(ledger: Ledger) -> None:
    for job in (await first(ledger, PERIOD), await first(ledger, OPEN, key="other")):
        assert await ledger.change(release_lapsed(job)) is None
        assert (await record(ledger, job.id)).unique_held


async def test_a_record_is_kept_while_it_holds_its_key(ledger: Ledger) -> None:
    long = await end(ledger, await first(ledger, PERIOD, for_s=AHEAD), "completed")
    assert long.expires_at == long.unique_until
    assert long.ended_at is not None
    short = await end(ledger, await first(ledger, PERIOD, for_s=1, key="other"), "completed")
    assert short.ended_at is not None
    assert short.expires_at == short.ended_at + timedelta(seconds=60)


# Another round.


def another_round(job: Job) -> Change:
    return requeue(job, republish_after_s=30, note="requeued")


@pytest.mark.parametrize("scope", list(UniqueScope))
async def test_a_dead_letter_whose_twin_is_open_is_not_put_back(
    ledger: Ledger, scope: UniqueScope
) -> None:
    dead = await end(ledger, await first(ledger, scope), "failed")
    twin = await first(ledger, scope)
    with pytest.raises(UniqueTaken, match=twin.id) as raised:
        await ledger.change(another_round(dead))
    assert (raised.value.key, raised.value.job_id) == ("k", twin.id)
    assert await record(ledger, dead.id) == dead, "nothing of it was changed"


@pytest.mark.parametrize("scope", list(UniqueScope))
async def test_a_dead_letter_put_back_holds_its_key_as_at_first(
    ledger: Ledger, scope: UniqueScope
) -> None:
    dead = await end(ledger, await first(ledger, scope), "failed")
    await ledger.change(dead_lettered(dead, retention_s=60))
    dead = await record(ledger, dead.id)
    again = await ledger.change(another_round(dead))
    assert again is not None
    assert not await is_free(ledger)
    await claimed(ledger, dead.id)
    assert await is_free(ledger) is (scope is WAITING)


async def test_a_dead_letter_without_a_key_is_put_back(ledger: Ledger) -> None:
    await first(ledger)
    plain = a_job()
    assert (await ledger.apply(Insert(plain, NowPlus(30)))).by_us
    failed = await ledger.change(fail_queued(await record(ledger, plain.id), ERROR))
    assert failed is not None
    assert await ledger.change(another_round(failed)) is not None


async def test_a_withdrawn_job_frees_its_key(ledger: Ledger) -> None:
    insert = Insert(a_unique_job(), NowPlus(30))
    await ledger.apply(insert)
    assert await ledger.withdraw(insert.job.id, insert.change.change_id)
    assert await is_free(ledger)


async def test_an_id_that_is_taken_is_told_from_a_key_that_is(ledger: Ledger) -> None:
    one = await first(ledger)
    same_id = replace(a_unique_job(key="other"), id=one.id)
    assert (await ledger.apply(Insert(same_id, NowPlus(30)))).job.id == one.id
    assert (await kiq(ledger, key="other", id=new_job_id())).by_us
