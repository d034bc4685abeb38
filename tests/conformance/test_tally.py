"""What every ledger counts of its jobs, and how `verify` judges it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from api_shared.job import Job, JobError, Reason, Status, new_job_id
from api_shared.ledger.audit import EXAMPLES, Audit, Finding, Scope, Violation
from api_shared.ledger.change import NOW, Change, Plus
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Cancel, Complete, Fail, Retry
from api_shared.ledger.protocol import Ledger, WorkerInfo
from api_shared.ledger.transitions import cancel_waiting, count_late_write, dead_lettered
from api_shared.ledger.verify import verify
from fixtures.ledgers import claimed, inserted, mongo_ledger

ERROR = JobError(Reason.ERROR, "ValueError", "it broke")


@pytest.fixture(params=["memory", "mongodb"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    async with mongo_ledger(request.getfixturevalue("services").mongodb.url) as ledger:
        yield ledger


async def completed(ledger: Ledger, **fields: Any) -> Job:
    job = await inserted(ledger, **fields)
    held, token = await claimed(ledger, job.id)
    assert await ledger.apply(Complete(job.id, token, held.seq + 1, "1", 60))
    return job


async def failed(ledger: Ledger, *, told: bool = True, **fields: Any) -> Job:
    job = await inserted(ledger, **fields)
    held, token = await claimed(ledger, job.id)
    assert await ledger.apply(Fail(job.id, token, held.seq + 1, ERROR, 60))
    record = await ledger.get(job.id)
    assert record is not None
    if told:
        assert await ledger.change(dead_lettered(record, retention_s=60))
    return job


async def retried_and_cancelled(ledger: Ledger, **fields: Any) -> Job:
    job = await inserted(ledger, **fields)
    held, token = await claimed(ledger, job.id)
    assert await ledger.apply(Retry(job.id, token, held.seq + 1, ERROR, 60))
    assert await ledger.change(cancel_waiting(job.id, retention_s=60))
    return job


async def counted(ledger: Ledger, scope: Scope = Scope(), **options: Any) -> Audit:  # noqa: B008 - frozen
    return await ledger.audit(scope, **{"overdue_s": 60, "dispatched": (), **options})


async def test_an_empty_ledger_is_sound(ledger: Ledger) -> None:
    audit = await counted(ledger)
    assert audit == Audit()
    assert audit.is_sound


async def test_each_job_is_counted_by_how_it_ended(ledger: Ledger) -> None:
    await completed(ledger)
    await completed(ledger)
    await failed(ledger)
    await failed(ledger, told=False)  # its dead letter is still to be published
    await retried_and_cancelled(ledger)
    await inserted(ledger)
    running = await inserted(ledger)
    await claimed(ledger, running.id)
    audit = await counted(ledger)
    assert audit == Audit(accepted=7, completed=2, failed=2, cancelled=1, open=2)


async def test_a_job_that_was_claimed_twice_ran_again(ledger: Ledger) -> None:
    job = await inserted(ledger)
    held, token = await claimed(ledger, job.id)
    await ledger.apply(Retry(job.id, token, held.seq + 1, ERROR, 0))
    await ledger.change(Change(job.id, {}, {"status": Status.QUEUED, "seq": Plus(1)}, note=""))
    held, token = await claimed(ledger, job.id)
    await ledger.apply(Cancel(job.id, token, held.seq + 1, 60))
    audit = await counted(ledger)
    assert (audit.ran_again, audit.cancelled, audit.is_sound) == (1, 1, True)


async def test_refused_writes_are_counted_whatever_became_of_their_jobs(ledger: Ledger) -> None:
    for job in (await completed(ledger), await inserted(ledger)):
        before = await ledger.get(job.id)
        after = await ledger.change(count_late_write(job.id))
        assert before is not None
        assert after is not None
        assert (after.seq, after.status, after.history) == (
            before.seq,
            before.status,
            before.history,
        )
        await ledger.change(count_late_write(job.id))
    audit = await counted(ledger)
    assert (audit.late_writes_refused, audit.is_sound) == (4, True)


LOSSES: dict[Violation, Callable[[Ledger], Awaitable[Job]]] = {}


def loss(broken: Violation) -> Callable[..., Any]:
    def keep(make: Callable[[Ledger], Awaitable[Job]]) -> Callable[[Ledger], Awaitable[Job]]:
        LOSSES[broken] = make
        return make

    return keep


@loss(Violation.STRANDED)
async def stranded(ledger: Ledger) -> Job:
    job = await inserted(ledger)
    await ledger.change(Change(job.id, {}, {}, remove=("due_at",)))
    return job


@loss(Violation.OVERDUE)
async def overdue(ledger: Ledger) -> Job:
    return await inserted(ledger, due_in_s=-100)


@loss(Violation.NO_DEAD_LETTER)
async def without_dead_letter(ledger: Ledger) -> Job:
    job = await failed(ledger, told=False)
    await ledger.change(Change(job.id, {}, {}, remove=("due_at",)))
    return job


@loss(Violation.ENDED_TWICE)
async def ended_twice(ledger: Ledger) -> Job:
    job = await completed(ledger)
    again = {"status": Status.CANCELLED, "seq": Plus(1), "ended_at": NOW}
    await ledger.change(Change(job.id, {}, again, note="a second end"))
    return job


@pytest.mark.parametrize("broken", list(LOSSES))
async def test_a_broken_promise_is_found_and_its_job_is_named(
    ledger: Ledger, broken: Violation
) -> None:
    await completed(ledger)
    job = await LOSSES[broken](ledger)
    audit = await counted(ledger, dispatched=("general",))
    assert audit.findings == (Finding(job.id, broken),)
    assert (audit.lost, audit.ended_twice) == (
        (0, 1) if broken is Violation.ENDED_TWICE else (1, 0)
    )
    assert not audit.is_sound


async def test_a_job_in_its_second_round_may_end_again(ledger: Ledger) -> None:
    job = await failed(ledger)
    start = {"status": Status.QUEUED, "round": Plus(1), "seq": Plus(1)}
    await ledger.change(Change(job.id, {}, start, remove=("expires_at",), note=""))
    held, token = await claimed(ledger, job.id)
    await ledger.apply(Complete(job.id, token, held.seq + 1, "1", 60))
    audit = await counted(ledger)
    assert (audit.completed, audit.failed, audit.ended_twice) == (1, 0, 0)


async def test_a_job_that_nobody_could_have_acted_on_is_not_lost_for_being_overdue(
    ledger: Ledger,
) -> None:
    await overdue(ledger)
    absent: list[dict[str, Any]] = [
        {"dispatched": ()},
        {"dispatched": ("ml",)},
        {"dispatched": ("general",), "overdue_s": 200},
    ]
    for options in absent:
        audit = await counted(ledger, **options)
        assert (audit.lost, audit.open) == (0, 1), options


async def test_no_more_findings_come_back_than_a_person_reads(ledger: Ledger) -> None:
    for _ in range(EXAMPLES + 3):
        await stranded(ledger)
    audit = await counted(ledger)
    assert audit.lost == EXAMPLES + 3
    assert len(audit.findings) == EXAMPLES


async def test_a_scope_counts_its_jobs_alone(ledger: Ledger) -> None:
    first = await completed(ledger, correlation_id="run-1")
    second = await completed(ledger, correlation_id="$run-2")
    record = await ledger.get(second.id)
    assert record is not None
    earlier = Change(first.id, {}, {"accepted_at": record.accepted_at - timedelta(hours=1)})
    assert await ledger.change(earlier)
    at = record.accepted_at
    for scope, accepted in (
        (Scope(), 2),
        (Scope(correlation_id="$run-2"), 1),
        (Scope(correlation_id="run-3"), 0),
        (Scope(since=at), 1),
        (Scope(until=at), 1),
        (Scope(since=at, until=at), 0),
        (Scope(since=at - timedelta(hours=2), until=at + timedelta(hours=1)), 2),
        (Scope(since=at, correlation_id="run-1"), 0),
    ):
        assert (await counted(ledger, scope)).accepted == accepted, scope


async def test_what_was_accepted_and_is_not_there_is_lost(ledger: Ledger) -> None:
    job, gone = await completed(ledger), new_job_id()
    audit = await verify(ledger, Scope(), accepted=[job.id.upper(), gone])
    assert (audit.accepted, audit.completed, audit.lost) == (2, 1, 1)
    assert audit.findings == (Finding(gone, Violation.VANISHED),)
    assert await ledger.absent([]) == []


async def test_an_overdue_job_is_lost_only_while_a_worker_of_its_broker_has_had_the_time(
    ledger: Ledger,
) -> None:
    job = await inserted(ledger, due_in_s=-100)
    assert (await verify(ledger, Scope(), overdue_s=50)).is_sound, "no worker is alive"
    await ledger.report_worker(WorkerInfo("w-1", "general", "host", 1, ("taskiq",), 0, {}))
    assert (await verify(ledger, Scope(), overdue_s=50)).is_sound, "it has just started"
    audit = await verify(ledger, Scope(), overdue_s=0)
    assert audit.findings == (Finding(job.id, Violation.OVERDUE),)
    assert (await verify(ledger, Scope(), overdue_s=None)).is_sound, "RabbitMQ is away, say"
