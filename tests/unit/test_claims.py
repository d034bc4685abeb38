"""ClaimRegistry and their heartbeat, on a ledger in memory."""

from __future__ import annotations

import asyncio

import pytest

from api_shared.errors import ClaimLost, InvalidOption
from api_shared.job import Progress, Status
from api_shared.ledger.operations import Complete
from api_shared.ledger.transitions import request_cancel, rescue
from api_shared.ledger.usage import MAX_NAMES
from api_shared.notifier.memory import MemoryNotifier
from api_shared.testing.waiting import until
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import HeldClaim, Stop
from fixtures.doubles import Clock
from fixtures.faulty_ledger import FaultyLedger
from fixtures.ledgers import claimed, inserted

LEASE_S = 15.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> FaultyLedger:
    return FaultyLedger(clock)


@pytest.fixture
def claims(ledger: FaultyLedger) -> ClaimRegistry:
    return ClaimRegistry(ledger, lease_s=LEASE_S, heartbeat_s=0.001)


async def held(ledger: FaultyLedger, claims: ClaimRegistry) -> HeldClaim:
    job = await inserted(ledger)
    job, token = await claimed(ledger, job.id, lease_s=LEASE_S)
    claim = HeldClaim(job, token, ledger, MemoryNotifier())
    claims.add(claim)
    return claim


async def lose(ledger: FaultyLedger, claim: HeldClaim, clock: Clock) -> None:
    clock.advance(LEASE_S + 1)
    job = await ledger.get(claim.job.id)
    assert job is not None
    change = rescue(job, max_lost=3, retry_in_s=1, republish_after_s=30, retention_s=60)
    assert await ledger.change(change) is not None


# The heartbeat.


async def test_one_write_renews_all_claims_of_the_process(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    both = [await held(ledger, claims) for _ in range(2)]
    clock.advance(10)
    await claims._beat()
    clock.advance(10)
    assert await ledger.due("general") == []
    assert ledger.asked["heartbeat"] == 1
    assert [claim.stop_reason for claim in both] == [None, None]


async def test_a_claim_that_was_taken_back_stops_its_body_and_no_other(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    lost = await held(ledger, claims)
    await lose(ledger, lost, clock)
    kept = await held(ledger, claims)
    await claims._beat()
    assert (lost.stop_reason, kept.stop_reason) == (Stop.LOST, None)


async def test_an_expired_lease_is_renewed_while_its_token_stands(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    claim = await held(ledger, claims)
    clock.advance(LEASE_S * 3)
    await claims._beat()
    assert claim.stop_reason is None
    assert await ledger.due("general") == []


async def test_a_cancel_is_heard_with_the_heartbeat(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    await ledger.change(request_cancel(claim.job.id))
    await claims._beat()
    assert claim.stop_reason is Stop.CANCEL


async def test_a_ledger_that_is_away_stops_nobody(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    ledger.fail.add("heartbeat")
    await claims._beat()
    assert claims.unreachable
    assert claim.stop_reason is None
    ledger.fail.clear()
    await claims._beat()
    assert not claims.unreachable


async def test_the_heartbeat_goes_on_when_the_ledger_is_back(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    claim = await held(ledger, claims)
    ledger.fail.add("heartbeat")
    keeping = asyncio.create_task(claims.keep())
    await until(lambda: ledger.asked["heartbeat"] >= 3)
    await ledger.change(request_cancel(claim.job.id))
    ledger.fail.clear()
    await until(lambda: claim.stop_reason is Stop.CANCEL)
    keeping.cancel()


async def test_a_process_without_claims_asks_nothing(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    keeping = asyncio.create_task(claims.keep())
    await until(lambda: ledger.asked["heartbeat"] >= 1)
    claims.remove(claim)
    await asyncio.wait_for(claims.wait_idle(), 30)
    beats = ledger.asked["heartbeat"]
    for _ in range(3):
        await asyncio.sleep(0.002)
    assert ledger.asked["heartbeat"] == beats
    keeping.cancel()


async def test_a_claim_that_ended_during_the_heartbeat_is_left_alone(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    seq = await claim.settle()
    await ledger.apply(Complete(claim.job.id, claim.token, seq, "1", 60))
    await claims._beat()
    assert claim.stop_reason is None, "it settles: nobody stops it any more"


async def held_anew(
    ledger: FaultyLedger, claims: ClaimRegistry, older: HeldClaim, clock: Clock
) -> HeldClaim:
    """Another claim on the job of `older`, which was lost."""
    await lose(ledger, older, clock)
    job, token = await claimed(ledger, older.job.id)
    newer = HeldClaim(job, token, ledger, MemoryNotifier())
    claims.add(newer)
    return newer


async def test_a_newer_claim_on_the_same_job_is_not_removed_with_the_older(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    older = await held(ledger, claims)
    newer = await held_anew(ledger, claims, older, clock)
    claims.remove(older)
    assert list(claims) == [newer]
    claims.cancel(newer.job.id)
    assert (newer.stop_reason, older.stop_reason) == (Stop.CANCEL, None)


@pytest.mark.parametrize("reason", [Stop.CANCEL, Stop.DRAIN])
async def test_an_older_claim_on_the_same_job_can_still_be_stopped(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock, reason: Stop
) -> None:
    older = await held(ledger, claims)
    newer = await held_anew(ledger, claims, older, clock)
    if reason is Stop.CANCEL:
        claims.cancel(newer.job.id)
    else:
        claims.stop_all(reason)
    assert (newer.stop_reason, older.stop_reason) == (reason, reason)


async def test_a_newer_claim_has_the_heartbeat_and_stops_the_older(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    older = await held(ledger, claims)
    newer = await held_anew(ledger, claims, older, clock)
    assert claims.tokens == {newer.job.id: newer.token}
    assert claims.stop_earlier(newer)
    await claims._beat()
    assert (newer.stop_reason, older.stop_reason) == (None, Stop.LOST)
    claims.remove(older)
    assert not claims.stop_earlier(newer)


async def test_two_deliveries_of_one_job_that_claim_it_do_not_hide_each_other(
    claims: ClaimRegistry,
) -> None:
    with claims.writing("job", "first"):
        with claims.writing("job", "second"):
            pass
        assert claims.tokens == {"job": "first"}
    assert claims.tokens == {}


async def test_stopping_all_stops_all(ledger: FaultyLedger, claims: ClaimRegistry) -> None:
    both = [await held(ledger, claims) for _ in range(2)]
    claims.stop_all(Stop.DRAIN)
    claims.stop_all(Stop.LOST)
    assert [claim.stop_reason for claim in both] == [Stop.DRAIN, Stop.DRAIN]


async def test_a_claim_that_arrives_when_all_were_stopped_is_stopped_too(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claims.stop_all(Stop.DRAIN)
    assert (await held(ledger, claims)).stop_reason is Stop.DRAIN


# What a holder writes.


async def test_the_journal_is_written_before_record_returns(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    await claim.record("page", "7", {"tokens": 3})
    job = await ledger.get(claim.job.id)
    assert job is not None
    assert job.journal == {"page": "7"} == claim.journal
    assert job.usage == {"tokens": 3} == claim.usage


async def test_a_claim_counts_on_from_what_runs_before_it_have_used(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    claim = await held(ledger, claims)
    await claim.record("page", "7", {"tokens": 3})
    await lose(ledger, claim, clock)
    job, token = await claimed(ledger, claim.job.id)
    again = HeldClaim(job, token, ledger, MemoryNotifier())
    assert again.usage == {"tokens": 3}
    await again.record("page 2", "8", {"tokens": 2, "calls": 1})
    recorded = await ledger.get(job.id)
    assert recorded is not None
    assert recorded.usage == {"tokens": 5, "calls": 1}


async def test_a_job_counts_under_a_bounded_number_of_names(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    await claim.record("a", "1", {f"name_{n}": 1 for n in range(MAX_NAMES)})
    await claim.record("b", "1", {"name_0": 1})
    with pytest.raises(InvalidOption, match="21 names"):
        await claim.record("c", "1", {"one_more": 1})
    assert "c" not in claim.journal


async def test_a_holder_that_lost_its_claim_writes_no_more(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock
) -> None:
    claim = await held(ledger, claims)
    await lose(ledger, claim, clock)
    with pytest.raises(ClaimLost):
        await claim.record("page", "8", {"tokens": 3})
    assert claim.stop_reason is Stop.LOST
    job = await ledger.get(claim.job.id)
    assert job is not None
    assert (job.journal, job.usage) == ({}, {})


async def test_progress_is_told_at_once_and_the_last_before_the_end(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    job = await inserted(ledger)
    job, token = await claimed(ledger, job.id)
    notifier = MemoryNotifier()
    claim = HeldClaim(job, token, ledger, notifier)
    async with notifier.subscribe(job_id=job.id) as events:
        claim.report(Progress(1, 3))
        first = await events.next(30)
        claim.report(Progress(2, 3))
        claim.report(Progress(3, 3))
        seq = await claim.settle()
        last = await events.next(30)
    assert first is not None
    assert last is not None
    assert (first.progress, last.progress) == (Progress(1, 3), Progress(3, 3))
    assert job.seq < first.seq < last.seq < seq
    recorded = await ledger.get(job.id)
    assert recorded is not None
    assert recorded.progress == Progress(1, 3)


async def test_progress_after_the_end_is_dropped(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    await claim.settle()
    claim.report(Progress(1))
    assert claim._reporter is None


async def test_numbers_count_up_from_the_claims_own(
    ledger: FaultyLedger, claims: ClaimRegistry
) -> None:
    claim = await held(ledger, claims)
    assert claim.job.status is Status.PROCESSING
    assert [claim.next_seq() for _ in range(3)] == [claim.job.seq + n for n in (1, 2, 3)]


# Writes that come too late.


@pytest.mark.parametrize("write", ["journal", "progress", "settlement"])
async def test_a_write_that_comes_too_late_is_refused_and_counted(
    ledger: FaultyLedger, claims: ClaimRegistry, clock: Clock, write: str
) -> None:
    claim = await held(ledger, claims)
    await lose(ledger, claim, clock)
    if write == "journal":
        with pytest.raises(ClaimLost):
            await claim.record("k", "1", {})
    elif write == "progress":
        claim.report(Progress(1))
        await until(lambda: claim.stop_reason is Stop.LOST)
        await claim.settle()
    else:
        await claim.was_late(Complete(claim.job.id, claim.token, await claim.settle(), "1", 60))
    job = await ledger.get(claim.job.id)
    assert job is not None
    assert (job.status, job.late_writes, job.journal, job.progress) == (
        Status.QUEUED, 1, {}, None,
    )  # fmt: skip
