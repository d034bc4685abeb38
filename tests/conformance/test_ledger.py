"""What every ledger does: the one in MongoDB, batched or not, and the one in memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api_shared.errors import InvalidJobId, LedgerUnavailable
from api_shared.job import Job, JobError, Progress, Reason, Status, new_job_id
from api_shared.ledger.change import HISTORY_LIMIT, NOW, Change, NowPlus, Plus
from api_shared.ledger.operations import (
    Cancel,
    Claim,
    Claimed,
    Complete,
    Fail,
    FencedWrite,
    Insert,
    Refused,
    Release,
    Retry,
    SaveJournal,
    SaveProgress,
    TakeLastChance,
)
from api_shared.ledger.protocol import ClaimState, JobFilter, Ledger, WorkerInfo
from api_shared.ledger.transitions import (
    begin_dead_lettering,
    cancel_waiting,
    dead_lettered,
    defer_check,
    fail_queued,
    publish_due,
    request_cancel,
    requeue,
    rescue,
)
from api_shared.testing.waiting import until
from fixtures.ledgers import a_job, claimed, insert, inserted

ERROR = JobError(Reason.ERROR, "ValueError", "it broke", "Traceback ...")
HOSTILE = (
    "$status",
    "$$NOW",
    "a.b.$c",
    "{$gt: ''}",
    "\x00nul",
    "épôcha 🦊",
    "",
    " ",
    json.dumps("\ud800"),
    json.dumps({"$set": {"status": 1}, "n": 2**70}),
)


async def record(ledger: Ledger, job_id: str) -> Job:
    job = await ledger.get(job_id)
    assert job is not None
    return job


def statuses(job: Job) -> list[Status]:
    return [entry.status for entry in job.history]


def settlements(job_id: str, token: str, seq: int) -> list[FencedWrite]:
    return [
        Complete(job_id, token, seq, result_json="1", retention_s=60),
        Fail(job_id, token, seq, error=ERROR, dead_letter_in_s=0),
        Retry(job_id, token, seq, error=ERROR, delay_s=5),
        Release(job_id, token, seq, delay_s=0, why="drain"),
        Cancel(job_id, token, seq, retention_s=60),
    ]


def back(job: Job, **options: Any) -> Change:
    defaults = {"max_lost": 3, "retry_in_s": 5, "republish_after_s": 30, "retention_s": 60}
    return rescue(job, **{**defaults, **options})


# Insert.


async def test_a_new_job_is_kept_with_all_its_fields(ledger: Ledger) -> None:
    job = a_job(
        priority=9,
        owner="ann",
        correlation_id="c-1",
        labels={"a.b": "$x", "$k": "v", "": "empty"},
        args_json='{"n": 1180591620717411303424, "s": "\\ud800"}',
    )
    before = datetime.now(UTC) - timedelta(seconds=60)
    verdict = await ledger.apply(insert(job, due_in_s=30))
    assert verdict.by_us
    kept = await record(ledger, job.id)
    assert before < kept.accepted_at < before + timedelta(seconds=120)
    assert kept.due_at == kept.accepted_at + timedelta(seconds=30)
    assert kept.queued_at == kept.accepted_at
    assert kept.history[0].at == kept.accepted_at
    assert [(e.seq, e.status, e.claim_no, e.round) for e in kept.history] == [
        (1, Status.QUEUED, 0, 1)
    ]
    times = {"accepted_at", "due_at", "queued_at", "history"}
    for field in fields(Job):
        if field.name not in times:
            assert getattr(kept, field.name) == getattr(job, field.name), field.name
    for verdict_field in ("id", "status", "seq", "labels", "args_json", "claim_no"):
        assert getattr(verdict.job, verdict_field) == getattr(kept, verdict_field)
    assert [e.change_id for e in verdict.job.history] == [e.change_id for e in kept.history]


async def test_a_job_inserted_twice_is_one_job_and_the_first_ones(ledger: Ledger) -> None:
    job = await inserted(ledger, owner="first")
    other = await ledger.apply(insert(replace(job, owner="second", args_json="{}")))
    assert other.by_us is False
    assert other.job == await record(ledger, job.id)
    assert other.job.owner == "first"


async def test_the_same_insert_sent_again_is_still_ours(ledger: Ledger) -> None:
    operation = insert(a_job())
    assert (await ledger.apply(operation)).by_us
    again = await ledger.apply(operation)
    assert again.by_us
    assert len(again.job.history) == 1


async def test_of_many_inserts_of_one_id_one_is_the_first(ledger: Ledger) -> None:
    job = a_job()
    verdicts = await asyncio.gather(*(ledger.apply(insert(job)) for _ in range(10)))
    assert sum(verdict.by_us for verdict in verdicts) == 1


async def test_an_insert_leaves_a_job_that_has_moved_on_alone(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    verdict = await ledger.apply(insert(job))
    assert verdict.by_us is False
    assert (verdict.job.status, verdict.job.token) == (Status.PROCESSING, token)


async def test_a_scheduled_job_is_due_at_its_time(ledger: Ledger) -> None:
    at = datetime(2100, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    job = a_job(status=Status.SCHEDULED)
    await ledger.apply(Insert(job, at))
    kept = await record(ledger, job.id)
    assert (kept.due_at, kept.queued_at) == (at, None)
    assert await ledger.due("general") == []


async def test_an_id_that_is_none_is_told(ledger: Ledger) -> None:
    with pytest.raises(InvalidJobId):
        await ledger.get("nonsense")
    with pytest.raises(InvalidJobId):
        await ledger.apply(insert(a_job(id="nonsense")))
    assert await ledger.get(new_job_id()) is None


# The life of a claim.


async def test_a_job_is_claimed_worked_on_and_completed(ledger: Ledger) -> None:
    job = await inserted(ledger)
    running, token = await claimed(ledger, job.id, lease_s=20, worker="w-7")
    assert running == await record(ledger, job.id)
    assert (running.status, running.seq, running.claim_no) == (Status.PROCESSING, 2, 1)
    assert (running.token, running.worker) == (token, "w-7")
    assert running.started_at is not None
    assert running.due_at == running.started_at + timedelta(seconds=20)
    assert running.history[-1].worker == "w-7"

    half = Progress(1, 2, "fit", "$half")
    assert await ledger.apply(SaveProgress(job.id, token, 3, progress=half))
    assert await ledger.apply(SaveJournal(job.id, token, 4, key="step", value_json="[1]"))
    working = await record(ledger, job.id)
    assert (working.progress, working.journal, working.seq) == (half, {"step": "[1]"}, 4)
    assert len(working.history) == 2, "neither is a change of status"

    done = Complete(job.id, token, 5, result_json='{"ok": true}', retention_s=60)
    assert await ledger.apply(done)
    ended = await record(ledger, job.id)
    assert (ended.status, ended.result, ended.seq) == (Status.COMPLETED, {"ok": True}, 5)
    assert ended.due_at is None
    assert ended.ended_at is not None
    assert ended.expires_at == ended.ended_at + timedelta(seconds=60)
    assert statuses(ended) == [Status.QUEUED, Status.PROCESSING, Status.COMPLETED]
    assert [entry.seq for entry in ended.history] == [1, 2, 5]


async def test_only_a_queued_job_can_be_claimed(ledger: Ledger) -> None:
    job_id = new_job_id()
    assert await ledger.apply(Claim(job_id, "t", "w", 30)) == Refused(None)
    job = await inserted(ledger, status=Status.SCHEDULED)
    assert isinstance(await ledger.apply(Claim(job.id, "t", "w", 30)), Refused)
    job = await inserted(ledger)
    await claimed(ledger, job.id)
    refused = await ledger.apply(Claim(job.id, "t", "w", 30))
    assert isinstance(refused, Refused)
    assert refused.job is not None
    assert refused.job.status is Status.PROCESSING
    assert refused.job.claim_no == 1


async def test_a_claim_sent_again_is_the_same_claim(ledger: Ledger) -> None:
    job = await inserted(ledger)
    claim = Claim(job.id, "token", "w", 30)
    first, again = await ledger.apply(claim), await ledger.apply(claim)
    assert isinstance(first, Claimed)
    assert again == first
    assert first.job.claim_no == 1


async def test_of_ten_claims_one_is_granted(ledger: Ledger) -> None:
    job = await inserted(ledger)
    claims = [Claim(job.id, f"token-{n}", f"w-{n}", 30) for n in range(10)]
    verdicts = await asyncio.gather(*(ledger.apply(claim) for claim in claims))
    granted = [claim for claim, v in zip(claims, verdicts, strict=True) if isinstance(v, Claimed)]
    assert len(granted) == 1
    assert (await record(ledger, job.id)).token == granted[0].token


@pytest.mark.parametrize("kind", range(5))
async def test_a_settlement_sent_again_changes_nothing_and_is_granted(
    ledger: Ledger, kind: int
) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    settlement = settlements(job.id, token, 3)[kind]
    assert await ledger.apply(settlement)
    once = await record(ledger, job.id)
    assert await ledger.apply(settlement)
    assert await record(ledger, job.id) == once


@pytest.mark.parametrize("kind", range(5))
async def test_only_one_settlement_of_a_claim_is_granted(ledger: Ledger, kind: int) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    assert await ledger.apply(settlements(job.id, token, 3)[kind])
    once = await record(ledger, job.id)
    for other in settlements(job.id, token, 4):
        assert not await ledger.apply(other)
    assert await record(ledger, job.id) == once


@pytest.mark.parametrize("kind", range(7))
async def test_a_stale_token_writes_nothing(ledger: Ledger, kind: int) -> None:
    job = await inserted(ledger)
    running, token = await claimed(ledger, job.id)
    writes: list[FencedWrite] = [
        SaveProgress(job.id, "stale", 9, progress=Progress(1)),
        SaveJournal(job.id, "stale", 9, key="k", value_json="1"),
        *settlements(job.id, "stale", 9),
    ]
    assert not await ledger.apply(writes[kind])
    assert await record(ledger, job.id) == running
    assert await ledger.apply(Complete(job.id, token, 3, result_json="1", retention_s=60))


@pytest.mark.parametrize("kind", range(7))
async def test_after_a_take_back_the_old_holder_writes_nothing(ledger: Ledger, kind: int) -> None:
    job = await inserted(ledger)
    running, token = await claimed(ledger, job.id, lease_s=0)
    taken = await ledger.change(back(running))
    assert taken is not None
    writes: list[FencedWrite] = [
        SaveProgress(job.id, token, 9, progress=Progress(1)),
        SaveJournal(job.id, token, 9, key="k", value_json="1"),
        *settlements(job.id, token, 9),
    ]
    assert not await ledger.apply(writes[kind])
    assert await record(ledger, job.id) == taken
    second, _ = await claimed(ledger, job.id)
    assert not await ledger.apply(writes[kind])
    assert await record(ledger, job.id) == second
    assert second.claim_no == 2


async def test_progress_goes_only_forward(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    assert await ledger.apply(SaveProgress(job.id, token, 4, progress=Progress(4)))
    assert await ledger.apply(SaveProgress(job.id, token, 3, progress=Progress(3)))
    kept = await record(ledger, job.id)
    assert (kept.seq, kept.progress) == (4, Progress(4))


async def test_writes_of_a_holder_sent_together_keep_their_order(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    writes: list[FencedWrite] = [
        SaveJournal(job.id, token, 3 + n, key=str(n), value_json=str(n)) for n in range(20)
    ]
    writes.append(Complete(job.id, token, 23, result_json="1", retention_s=60))
    assert all(await asyncio.gather(*(ledger.apply(write) for write in writes)))
    ended = await record(ledger, job.id)
    assert ended.status is Status.COMPLETED
    assert ended.journal == {str(n): str(n) for n in range(20)}


async def test_a_failed_attempt_is_retried_and_the_next_claim_starts_afresh(
    ledger: Ledger,
) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    await ledger.apply(SaveProgress(job.id, token, 3, progress=Progress(1)))
    await ledger.apply(SaveJournal(job.id, token, 4, key="k", value_json="1"))
    assert await ledger.apply(Retry(job.id, token, 5, error=ERROR, delay_s=-1))
    (waiting,) = await ledger.due("general")
    assert (waiting.status, waiting.attempt, waiting.error) == (Status.RETRYING, 1, ERROR)
    assert waiting.expires_at is None
    assert waiting.history[-1].note == "error"

    queued = await ledger.change(publish_due(waiting, republish_after_s=30))
    assert queued is not None
    assert (queued.status, queued.seq) == (Status.QUEUED, 6)
    again, token = await claimed(ledger, job.id)
    assert (again.progress, again.journal) == (None, {"k": "1"})
    assert (again.claim_no, again.attempt) == (2, 1)
    await ledger.apply(Complete(job.id, token, 8, result_json="1", retention_s=60))
    assert (await record(ledger, job.id)).error is None


async def test_a_job_handed_back_costs_no_attempt(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    assert await ledger.apply(Release(job.id, token, 3, delay_s=0, why="drain"))
    kept = await record(ledger, job.id)
    assert (kept.status, kept.attempt, kept.history[-1].note) == (Status.RETRYING, 0, "drain")


async def test_a_failed_job_is_due_until_its_dead_letter_is_confirmed(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    assert await ledger.apply(Fail(job.id, token, 3, error=ERROR, dead_letter_in_s=0))
    (failed,) = await ledger.due("general")
    assert (failed.status, failed.error, failed.failure_told) == (Status.FAILED, ERROR, False)
    assert failed.expires_at is None
    takers = [ledger.change(begin_dead_lettering(failed, again_in_s=30)) for _ in range(10)]
    assert sum(job is not None for job in await asyncio.gather(*takers)) == 1
    told = await ledger.change(dead_lettered(failed, retention_s=60))
    assert told is not None
    assert (told.failure_told, told.due_at) == (True, None)
    assert told.expires_at is not None


# What others change.


async def a_failed_job(ledger: Ledger) -> Job:
    """Lost once, failed once, its dead letter confirmed; with a journal."""
    job = await inserted(ledger, owner="ann")
    held, token = await claimed(ledger, job.id, lease_s=-1)
    await ledger.change(back(held))
    held, token = await claimed(ledger, job.id)
    await ledger.apply(SaveJournal(job.id, token, held.seq + 1, key="page", value_json="7"))
    await ledger.apply(SaveProgress(job.id, token, held.seq + 2, progress=Progress(1)))
    await ledger.change(request_cancel(job.id))
    await ledger.apply(Fail(job.id, token, held.seq + 3, error=ERROR, dead_letter_in_s=5))
    done = await ledger.change(dead_lettered(await record(ledger, job.id), retention_s=60))
    assert done is not None
    return done


async def test_the_next_round_of_a_failed_job_is_fresh_and_keeps_what_happened(
    ledger: Ledger,
) -> None:
    failed = await a_failed_job(ledger)
    change = requeue(failed, republish_after_s=30, note="requeued")
    assert await ledger.change(change) is not None
    job = await record(ledger, failed.id)
    assert (job.status, job.round, job.seq) == (Status.QUEUED, 2, failed.seq + 1)
    assert (job.attempt, job.lost, job.looks, job.claim_no) == (0, 0, 0, 2)
    assert not job.failure_told
    assert not job.cancel_requested
    assert job.expires_at is None, "or MongoDB would delete it while it runs"
    assert (job.ended_at, job.started_at, job.token, job.worker) == (None, None, None, None)
    assert (job.error, job.progress, job.journal) == (None, None, {"page": "7"})
    assert job.due_at is not None
    assert job.queued_at is not None
    assert job.due_at - job.queued_at == timedelta(seconds=30)
    assert statuses(job)[:-1] == statuses(failed)
    last = job.history[-1]
    assert (last.round, last.note, last.worker) == (2, "requeued", None)
    held, token = await claimed(ledger, job.id)
    assert held.claim_no == 3
    assert await ledger.apply(Complete(job.id, token, held.seq + 1, "1", 60))


async def test_a_journal_can_be_forgotten_with_a_new_round(ledger: Ledger) -> None:
    failed = await a_failed_job(ledger)
    change = requeue(failed, republish_after_s=30, note="", forget_journal=True)
    assert await ledger.change(change) is not None
    assert (await record(ledger, failed.id)).journal == {}


async def test_of_ten_requeues_one_begins_the_next_round(ledger: Ledger) -> None:
    failed = await a_failed_job(ledger)
    changes = [requeue(failed, republish_after_s=30, note="") for _ in range(10)]
    begun = await asyncio.gather(*(ledger.change(change) for change in changes))
    assert len([job for job in begun if job is not None]) == 1
    job = await record(ledger, failed.id)
    assert (job.round, len(job.history)) == (2, len(failed.history) + 1)


async def test_whoever_would_bury_the_last_round_leaves_the_next_alone(ledger: Ledger) -> None:
    failed = await a_failed_job(ledger)
    await ledger.change(requeue(failed, republish_after_s=30, note=""))
    for late in (
        dead_lettered(failed, retention_s=60),
        begin_dead_lettering(failed, again_in_s=5),
        requeue(failed, republish_after_s=30, note=""),
    ):
        assert await ledger.change(late) is None


async def test_a_claim_is_taken_back_only_after_its_lease(ledger: Ledger) -> None:
    job = await inserted(ledger)
    running, _ = await claimed(ledger, job.id, lease_s=30)
    assert await ledger.change(back(running)) is None
    assert await record(ledger, job.id) == running


async def test_of_ten_dispatchers_one_takes_a_job_back(ledger: Ledger) -> None:
    job = await inserted(ledger)
    await claimed(ledger, job.id, lease_s=0)
    (lost,) = await ledger.due("general")
    taken = await asyncio.gather(*(ledger.change(back(lost)) for _ in range(10)))
    (winner,) = [job for job in taken if job is not None]
    assert (winner.status, winner.lost, winner.token) == (Status.QUEUED, 1, None)
    assert winner == await record(ledger, job.id)


async def test_of_ten_dispatchers_one_publishes_and_one_looks(ledger: Ledger) -> None:
    job = await inserted(ledger, due_in_s=0)
    (due,) = await ledger.due("general")
    looks = await asyncio.gather(*(ledger.change(defer_check(due, in_s=60)) for _ in range(10)))
    assert sum(job is not None for job in looks) == 1
    scheduled = await inserted(ledger, status=Status.SCHEDULED, due_in_s=0)
    due = await record(ledger, scheduled.id)
    changes = [publish_due(due, republish_after_s=30) for _ in range(10)]
    published = await asyncio.gather(*(ledger.change(change) for change in changes))
    assert sum(job is not None for job in published) == 1
    assert (await record(ledger, job.id)).looks == 1


async def test_a_job_lost_too_often_fails(ledger: Ledger) -> None:
    job = await inserted(ledger)
    for lost, status in ((1, Status.QUEUED), (2, Status.RETRYING), (3, Status.FAILED)):
        running, token = await claimed(ledger, job.id, lease_s=0)
        if lost == 3:
            assert await ledger.apply(TakeLastChance(job.id, token, running.seq + 1))
            running = await record(ledger, job.id)
            assert running.last_chance
        taken = await ledger.change(back(running, retry_in_s=0))
        assert taken is not None
        assert (taken.lost, taken.status) == (lost, status)
        if status is Status.RETRYING:
            assert await ledger.change(publish_due(taken, republish_after_s=30)) is not None
    failed = await record(ledger, job.id)
    assert failed.error is not None
    assert failed.error.reason is Reason.LOST
    assert failed.expires_at is None
    assert [job.id for job in await ledger.due("general")] == [job.id]


async def test_a_waiting_job_is_cancelled_at_once(ledger: Ledger) -> None:
    job = await inserted(ledger)
    ended = await ledger.change(cancel_waiting(job.id, retention_s=60))
    assert ended is not None
    assert (ended.status, ended.due_at) == (Status.CANCELLED, None)
    assert ended.expires_at is not None
    assert await ledger.change(cancel_waiting(job.id, retention_s=60)) is None
    assert isinstance(await ledger.apply(Claim(job.id, "t", "w", 30)), Refused)


async def test_cancel_and_claim_at_the_same_time_end_in_one_of_both(ledger: Ledger) -> None:
    for _ in range(10):
        job = await inserted(ledger)
        cancelled, claim = await asyncio.gather(
            ledger.change(cancel_waiting(job.id, retention_s=60)),
            ledger.apply(Claim(job.id, "t", "w", 30)),
        )
        assert (cancelled is None) == isinstance(claim, Claimed)
        assert len((await record(ledger, job.id)).history) == 2


async def test_a_running_job_is_asked_to_stop_and_its_holder_ends_it(ledger: Ledger) -> None:
    job = await inserted(ledger)
    assert await ledger.change(request_cancel(job.id)) is None, "nobody runs it"
    _, token = await claimed(ledger, job.id)
    asked = await ledger.change(request_cancel(job.id))
    assert asked is not None
    assert asked.cancel_requested
    assert await ledger.heartbeat({job.id: token}, lease_s=30) == {job.id: ClaimState(True)}
    assert await ledger.apply(Cancel(job.id, token, 3, retention_s=60))
    assert (await record(ledger, job.id)).status is Status.CANCELLED


async def test_a_job_that_is_lost_before_it_took_its_last_chance_is_innocent(
    ledger: Ledger,
) -> None:
    job = await inserted(ledger)
    for number in range(5):
        running, token = await claimed(ledger, job.id, lease_s=0)
        assert not running.last_chance, "it was the chance of an earlier claim"
        if number == 3:
            assert await ledger.apply(TakeLastChance(job.id, token, running.seq + 1))
            stopped = Release(job.id, token, running.seq + 2, delay_s=0, why="drain")
            assert await ledger.apply(stopped)
            taken: Job | None = await record(ledger, job.id)
        else:
            taken = await ledger.change(back(running, retry_in_s=0))
        assert taken is not None
        assert taken.lost == min(number + 1, 2)
        if taken.status is Status.RETRYING:
            assert await ledger.change(publish_due(taken, republish_after_s=30)) is not None
    other, token = await claimed(ledger, job.id)
    assert not await ledger.apply(TakeLastChance(job.id, "another's", other.seq + 1))


@pytest.mark.parametrize("kind", [Retry, Release])
async def test_a_job_that_was_asked_to_stop_is_not_handed_on(
    ledger: Ledger, kind: type[FencedWrite]
) -> None:
    job = await inserted(ledger)
    held, token = await claimed(ledger, job.id)
    assert await ledger.change(request_cancel(job.id)) is not None
    (write,) = [w for w in settlements(job.id, token, held.seq + 1) if isinstance(w, kind)]
    assert not await ledger.apply(write)
    assert (await record(ledger, job.id)).status is Status.PROCESSING
    assert await ledger.apply(Cancel(job.id, token, held.seq + 2, retention_s=60))


async def test_a_lost_job_that_was_to_stop_is_cancelled(ledger: Ledger) -> None:
    job = await inserted(ledger)
    await claimed(ledger, job.id, lease_s=0)
    asked = await ledger.change(request_cancel(job.id))
    assert asked is not None
    taken = await ledger.change(back(asked))
    assert taken is not None
    assert taken.status is Status.CANCELLED


async def test_a_cancel_between_the_look_and_the_take_back_is_not_lost(ledger: Ledger) -> None:
    job = await inserted(ledger)
    as_read, _ = await claimed(ledger, job.id, lease_s=0)
    asked = await ledger.change(request_cancel(job.id))
    assert asked is not None
    assert await ledger.change(back(as_read)) is None
    taken = await ledger.change(back(asked))
    assert taken is not None
    assert taken.status is Status.CANCELLED


async def test_a_queued_job_that_cannot_run_fails(ledger: Ledger) -> None:
    job = await inserted(ledger)
    failed = await ledger.change(fail_queued(await record(ledger, job.id), ERROR))
    assert failed is not None
    assert (failed.status, failed.error) == (Status.FAILED, ERROR)
    assert [job.id for job in await ledger.due("general")] == [job.id]


async def test_a_change_of_no_job_is_none(ledger: Ledger) -> None:
    assert await ledger.change(request_cancel(new_job_id())) is None
    assert await ledger.get(new_job_id()) is None


async def test_the_history_keeps_its_last_entries(ledger: Ledger) -> None:
    job = await inserted(ledger)
    for number in range(HISTORY_LIMIT + 5):
        change = Change(job.id, {}, {"seq": Plus(1)}, note=str(number))
        assert await ledger.change(change) is not None
    kept = await record(ledger, job.id)
    assert [entry.note for entry in kept.history] == [str(n) for n in range(5, HISTORY_LIMIT + 5)]
    assert kept.seq == kept.history[-1].seq == HISTORY_LIMIT + 6


async def test_a_time_that_is_missing_has_not_come(ledger: Ledger) -> None:
    job = await inserted(ledger)
    assert await ledger.change(Change(job.id, {"ended_at": NOW}, {"lost": 1})) is None
    assert await ledger.change(Change(job.id, {"accepted_at": NOW}, {"lost": 1})) is not None


# Whatever text may hold.


async def test_any_text_comes_back_as_it_was(ledger: Ledger) -> None:
    for text in HOSTILE:
        job = await inserted(
            ledger,
            args_json=text,
            owner=text,
            correlation_id=text,
            task=text,
            labels={text: text},
        )
        running, token = await claimed(ledger, job.id, worker=text)
        assert (running.args_json, running.owner, running.worker) == (text, text, text)
        assert (running.task, running.labels) == (text, {text: text})
        progress = Progress(1.5, None, text, text)
        assert await ledger.apply(SaveProgress(job.id, token, 3, progress=progress))
        assert await ledger.apply(SaveJournal(job.id, token, 4, key=text, value_json=text))
        error = JobError(Reason.ERROR, text, text, text)
        assert await ledger.apply(Release(job.id, token, 5, delay_s=0, why=text))
        waiting = await record(ledger, job.id)
        assert (waiting.progress, waiting.journal) == (progress, {text: text})
        assert waiting.history[-1].note == text
        await ledger.change(publish_due(waiting, republish_after_s=30))
        _, token = await claimed(ledger, job.id)
        assert await ledger.apply(Fail(job.id, token, 8, error=error, dead_letter_in_s=0))
        assert (await record(ledger, job.id)).error == error
        found = await ledger.find(JobFilter(owner=text, task=text, correlation_id=text))
        assert [job.id for job in found] == [job.id]


async def test_journal_keys_do_not_touch_each_other(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    for seq, key in enumerate(HOSTILE, start=3):
        write = SaveJournal(job.id, token, seq, key=key, value_json=str(seq))
        assert await ledger.apply(write)
    overwrite = SaveJournal(job.id, token, 99, key=HOSTILE[0], value_json="new")
    assert await ledger.apply(overwrite)
    expected = {key: str(seq) for seq, key in enumerate(HOSTILE, start=3)}
    assert (await record(ledger, job.id)).journal == expected | {HOSTILE[0]: "new"}


# What jobs have used up.


async def test_usage_counts_with_its_journal_entry_and_only_once(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    first = SaveJournal(job.id, token, 3, "a", "1", {"prompt_tokens": 12, "calls": 1})
    for _ in range(3):
        assert await ledger.apply(first)
    assert await ledger.apply(SaveJournal(job.id, token, 4, "b", "2"))
    assert await ledger.apply(SaveJournal(job.id, token, 5, "c", "3", {"prompt_tokens": 10**12}))
    assert (await record(ledger, job.id)).usage == {"prompt_tokens": 10**12 + 12, "calls": 1}
    stale = SaveJournal(job.id, "stale", 9, "d", "4", {"calls": 1})
    assert not await ledger.apply(stale)
    assert (await record(ledger, job.id)).usage == {"prompt_tokens": 10**12 + 12, "calls": 1}


async def test_usage_stays_with_the_job_through_its_runs_and_in_lists(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id)
    await ledger.apply(SaveJournal(job.id, token, 3, "a", "1", {"calls": 2}))
    await ledger.apply(Release(job.id, token, 4, delay_s=-1, why="drain"))
    (waiting,) = await ledger.due("general")
    assert await ledger.change(publish_due(waiting, republish_after_s=30)) is not None
    _, token = await claimed(ledger, job.id)
    await ledger.apply(SaveJournal(job.id, token, 7, "b", "1", {"calls": 1}))
    await ledger.apply(Complete(job.id, token, 8, result_json="1", retention_s=60))
    assert [job.usage for job in await ledger.find(JobFilter())] == [{"calls": 3}]


async def test_the_usage_of_an_owner_is_that_of_all_its_jobs(ledger: Ledger) -> None:
    for owner, usage in [
        ("ann", {"tokens": 5, "calls": 1}),
        ("ann", {"tokens": 7}),
        ("ann", {}),
        ("$owner", {"tokens": 100}),
        (None, {"tokens": 1000}),
    ]:
        job = await inserted(ledger, owner=owner)
        _, token = await claimed(ledger, job.id)
        await ledger.apply(SaveJournal(job.id, token, 3, "a", "1", usage))
    assert await ledger.usage_of("ann") == {"tokens": 12, "calls": 1}
    assert await ledger.usage_of("$owner") == {"tokens": 100}
    assert await ledger.usage_of("nobody") == {}


# Looking for jobs.


async def test_find_filters_and_lists_the_newest_first(ledger: Ledger) -> None:
    first = await inserted(ledger, owner="ann", task="a", queue="critical")
    await until_later(ledger, first.id)
    second = await inserted(ledger, owner="bob", task="b", broker="ml", correlation_id="c")
    await until_later(ledger, second.id)
    third = await inserted(ledger, owner="ann", task="b", status=Status.SCHEDULED)

    async def found(**wanted: Any) -> list[str]:
        return [job.id for job in await ledger.find(JobFilter(**wanted))]

    assert await found() == [third.id, second.id, first.id]
    assert await found(owner="ann") == [third.id, first.id]
    assert await found(task="b") == [third.id, second.id]
    assert await found(queue="critical") == [first.id]
    assert await found(broker="ml") == [second.id]
    assert await found(correlation_id="c") == [second.id]
    assert await found(status=Status.QUEUED) == [second.id, first.id]
    assert await found(status=Status.SCHEDULED) == [third.id]
    assert await found(status=Status.COMPLETED) == []
    assert await found(owner="ann", status=Status.QUEUED, broker="general") == [first.id]
    await ledger.change(cancel_waiting(first.id, retention_s=60))
    assert await found(status=Status.CANCELLED) == [first.id]


async def until_later(ledger: Ledger, job_id: str) -> None:
    """Until the ledger's clock shows another millisecond than that of the job."""
    accepted_at = (await record(ledger, job_id)).accepted_at

    async def is_later() -> bool:
        probe = await inserted(ledger, broker="probe")
        later = (await record(ledger, probe.id)).accepted_at > accepted_at
        await ledger.withdraw(probe.id, (await record(ledger, probe.id)).history[0].change_id)
        return later

    await until(is_later)


async def test_pages_leave_out_nothing_that_was_accepted_in_one_millisecond(
    ledger: Ledger,
) -> None:
    jobs = [a_job() for _ in range(25)]
    await asyncio.gather(*(ledger.apply(insert(job)) for job in jobs))
    seen: list[Job] = []
    while page := await ledger.find(JobFilter(), limit=4, before=seen[-1] if seen else None):
        seen += page
    assert len(seen) == 25
    assert {job.id for job in seen} == {job.id for job in jobs}
    assert await ledger.find(JobFilter(), before=seen[-1].accepted_at) == []


async def test_lists_carry_no_journals(ledger: Ledger) -> None:
    job = await inserted(ledger)
    _, token = await claimed(ledger, job.id, lease_s=-1)
    await ledger.apply(SaveJournal(job.id, token, 3, key="k", value_json="1"))
    assert [job.journal for job in await ledger.find(JobFilter())] == [{}]
    assert [job.journal for job in await ledger.due("general")] == [{}]


async def test_due_lists_the_longest_overdue_first(ledger: Ledger) -> None:
    late = await inserted(ledger, due_in_s=-10)
    latest = await inserted(ledger, due_in_s=-20)
    await inserted(ledger, due_in_s=30)
    await inserted(ledger, due_in_s=-30, broker="ml")
    assert [job.id for job in await ledger.due("general")] == [latest.id, late.id]
    assert [job.id for job in await ledger.due("general", limit=1)] == [latest.id]


async def test_due_lists_those_of_some_statuses_whatever_lies_before_them(ledger: Ledger) -> None:
    for _ in range(3):
        await inserted(ledger, due_in_s=-20)
    scheduled = await inserted(ledger, due_in_s=-10, status=Status.SCHEDULED)
    statuses = {Status.SCHEDULED, Status.FAILED}
    assert [job.id for job in await ledger.due("general", statuses=statuses, limit=1)] == [
        scheduled.id
    ]
    assert await ledger.due("general", statuses={Status.FAILED}) == []


async def test_counts_by_queue_and_status(ledger: Ledger) -> None:
    running = await inserted(ledger)
    await claimed(ledger, running.id)
    ended = await inserted(ledger)
    _, token = await claimed(ledger, ended.id)
    await ledger.apply(Complete(ended.id, token, 3, result_json="1", retention_s=60))
    failed = await inserted(ledger)
    await ledger.change(fail_queued(await record(ledger, failed.id), ERROR))
    for queue in ("low", "low", "taskiq"):
        await inserted(ledger, queue=queue)
    await inserted(ledger, broker="ml", queue="low")
    assert await ledger.count("general") == {
        "taskiq": {Status.PROCESSING: 1, Status.QUEUED: 1},
        "low": {Status.QUEUED: 2},
    }
    assert await ledger.count("nobody") == {}
    assert await ledger.queued("general", "low") == 2
    assert await ledger.queued("general", "taskiq") == 1
    assert await ledger.queued("general", "critical") == 0
    assert await ledger.queued("general", "low", older_than_s=60) == 0
    assert await ledger.queued("general", "low", older_than_s=-60) == 2


async def test_the_oldest_of_a_queue_come_first(ledger: Ledger) -> None:
    first = await inserted(ledger)
    await until_later(ledger, first.id)
    second = await inserted(ledger)
    await inserted(ledger, queue="low")
    claimed_job = await inserted(ledger)
    await claimed(ledger, claimed_job.id)
    oldest = await ledger.oldest_queued("general", "taskiq", limit=10)
    assert [job.id for job in oldest] == [first.id, second.id]
    (one,) = await ledger.oldest_queued("general", "taskiq", limit=1)
    assert one.id == first.id
    assert await ledger.oldest_queued("general", "taskiq", limit=9, older_than_s=60) == []
    assert await ledger.change(defer_check(one, in_s=600)) is not None, "though it is not due"
    (later,) = await ledger.oldest_queued("general", "taskiq", limit=9, not_due_within_s=300)
    assert later.id == first.id, "the other one is looked after sooner"


# Heartbeats.


async def test_a_heartbeat_renews_its_own_claims_and_names_the_lost(ledger: Ledger) -> None:
    held: dict[str, str] = {}
    for _ in range(3):
        job = await inserted(ledger)
        _, held[job.id] = await claimed(ledger, job.id, lease_s=0)
    kept, taken, ended = held
    await ledger.change(back(await record(ledger, taken)))
    await claimed(ledger, taken, worker="w-2")
    await ledger.apply(Complete(ended, held[ended], 3, result_json="1", retention_s=60))
    others = await record(ledger, taken)

    still = await ledger.heartbeat({**held, new_job_id(): "t"}, lease_s=30)
    assert still == {kept: ClaimState(cancel_requested=False)}
    assert [job.id for job in await ledger.due("general")] == []
    assert await record(ledger, taken) == others
    assert (await record(ledger, ended)).due_at is None
    assert await ledger.heartbeat({}, lease_s=30) == {}


async def test_a_heartbeat_renews_a_lease_that_has_run_out_while_its_token_stands(
    ledger: Ledger,
) -> None:
    job = await inserted(ledger)
    lost, token = await claimed(ledger, job.id, lease_s=0)
    assert await ledger.heartbeat({job.id: token}, lease_s=30) == {job.id: ClaimState(False)}
    assert await ledger.change(back(lost)) is None


# Withdrawing.


async def test_a_job_that_nobody_has_touched_is_withdrawn_by_its_own_insert(
    ledger: Ledger,
) -> None:
    job = a_job()
    operation = insert(job)
    await ledger.apply(operation)
    assert not await ledger.withdraw(job.id, "another")
    assert await ledger.withdraw(job.id, operation.change.change_id)
    assert await ledger.get(job.id) is None
    assert not await ledger.withdraw(job.id, operation.change.change_id)


async def test_a_job_that_was_claimed_is_not_withdrawn(ledger: Ledger) -> None:
    job = a_job()
    operation = insert(job)
    await ledger.apply(operation)
    running, _ = await claimed(ledger, job.id, lease_s=0)
    assert not await ledger.withdraw(job.id, operation.change.change_id)
    await ledger.change(back(running))
    assert not await ledger.withdraw(job.id, operation.change.change_id)


# Workers.


async def test_workers_report_and_go(ledger: Ledger) -> None:
    one = WorkerInfo("host:1:a", "general", "host", 1, ("taskiq", "low"), 2, {"a.b": 3, "$q": 0})
    two = WorkerInfo("host:2:$b", "ml", "host", 2, (), 0, {})
    await ledger.report_worker(one)
    await ledger.report_worker(two)
    first, second = await ledger.workers()
    assert replace(first, started_at=None, seen_at=None) == one
    assert replace(second, started_at=None, seen_at=None) == two
    assert first.started_at == first.seen_at is not None

    async def seen_again() -> bool:
        await ledger.report_worker(replace(one, running=5))
        (again, _) = await ledger.workers()
        assert (again.running, again.started_at) == (5, first.started_at)
        assert again.seen_at is not None
        assert first.seen_at is not None
        return again.seen_at > first.seen_at

    await until(seen_again)
    await ledger.remove_worker(one.id)
    await ledger.remove_worker("unknown")
    assert [worker.id for worker in await ledger.workers()] == [two.id]
    assert await ledger.workers(seen_within_s=-60) == []


async def test_people_are_told_the_version(ledger: Ledger) -> None:
    assert await ledger.server_version()


async def test_close_and_start_again_keep_the_jobs(ledger: Ledger) -> None:
    job = await inserted(ledger)
    await ledger.close()
    await ledger.start()
    await ledger.start()
    assert (await record(ledger, job.id)).id == job.id


async def test_a_ledger_that_gave_up_takes_no_writes_and_still_answers(ledger: Ledger) -> None:
    job = await inserted(ledger)
    await ledger.give_up()
    with pytest.raises(LedgerUnavailable):
        await ledger.apply(Claim(job.id, "token", "w", 30))
    assert (await record(ledger, job.id)).status is Status.QUEUED


def test_a_delay_is_kept_to_the_millisecond() -> None:
    assert NowPlus(0.0304).milliseconds == 30
