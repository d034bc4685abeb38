"""Later: which times are taken, and how a job that waits for its time gets another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel

from api_shared import Contract, RescheduleAnswer
from api_shared.client.follow.handle import reschedule_job
from api_shared.client.follow.watch import watch
from api_shared.client.kiq import accept
from api_shared.client.options import KiqOptions
from api_shared.client.runtime import Runtime
from api_shared.client.submission import Submission
from api_shared.errors import InvalidOption, JobNotFound, NaiveDatetime
from api_shared.job import Job, JobError, Reason, Status, new_job_id
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Claim, Claimed, Complete, Retry
from api_shared.ledger.transitions import cancel_waiting, publish_due
from fixtures.doubles import Clock, runtime_on

HOUR = timedelta(hours=1)


class Args(BaseModel):
    pass


CONTRACT = Contract("nothing", Args, int)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runtime(clock: Clock) -> Runtime:
    return runtime_on(MemoryLedger(clock))


async def kiq(runtime: Runtime, **options: Any) -> Job:
    return (await accept(Submission(CONTRACT, Args(), KiqOptions(**options)), runtime)).job


async def job_of(runtime: Runtime, job: Job) -> Job:
    found = await runtime.ledger.get(job.id)
    assert found is not None
    return found


async def is_due(runtime: Runtime) -> bool:
    return bool(await runtime.ledger.due("general"))


# Which times.


@pytest.mark.parametrize(
    "at",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime(1960, 1, 1, tzinfo=UTC),
        datetime(2025, 12, 31, 23, 59, tzinfo=UTC),
    ],
)
async def test_a_time_that_has_passed_is_at_once(runtime: Runtime, at: datetime) -> None:
    job = await kiq(runtime, at=at)
    assert await is_due(runtime)
    assert job.due_at is not None
    assert job.due_at > datetime(1970, 1, 1, tzinfo=UTC), "no index holds what is due before"


@pytest.mark.parametrize(
    "at",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime(2100, 1, 1, tzinfo=UTC),
    ],
)
async def test_a_time_beyond_ten_years_is_a_mistake(runtime: Runtime, at: datetime) -> None:
    with pytest.raises(InvalidOption, match="must be at most 3660 days ahead"):
        await kiq(runtime, at=at)


async def test_a_naive_time_is_refused_with_the_way_to_say_it(runtime: Runtime) -> None:
    naive = datetime(2026, 1, 2, 8)
    with pytest.raises(NaiveDatetime, match=r"astimezone\(\).*tzinfo=UTC"):
        await kiq(runtime, at=naive)
    job = await kiq(runtime, at=naive.astimezone())
    assert job.due_at == naive.astimezone()


# Moving.


async def test_a_scheduled_job_is_moved_and_its_watchers_are_told(
    runtime: Runtime, clock: Clock
) -> None:
    job = await kiq(runtime, delay=HOUR)
    answer = await reschedule_job(job.id, runtime, delay=timedelta(minutes=10))
    moved = await job_of(runtime, job)
    assert answer is RescheduleAnswer.MOVED
    assert moved.due_at == clock.now + timedelta(minutes=10)
    assert [entry.note for entry in moved.history] == ["", "rescheduled"]
    await runtime.ledger.change(cancel_waiting(job.id, retention_s=60))
    seen = [event.status async for event in watch(
        job.id, ledger=runtime.ledger, notifier=runtime.notifier
    )]  # fmt: skip
    assert seen == [Status.SCHEDULED, Status.SCHEDULED, Status.CANCELLED]


async def test_a_job_moved_to_now_is_due(runtime: Runtime) -> None:
    job = await kiq(runtime, delay=HOUR)
    await reschedule_job(job.id, runtime, at=datetime(2020, 1, 1, tzinfo=UTC))
    assert await is_due(runtime)
    other = await kiq(runtime, delay=HOUR)
    assert await reschedule_job(other.id, runtime, delay=timedelta(0)) is RescheduleAnswer.MOVED
    assert len(await runtime.ledger.due("general")) == 2


async def test_a_retry_can_be_moved(runtime: Runtime, clock: Clock) -> None:
    job = await kiq(runtime)
    claimed = await runtime.ledger.apply(Claim(job.id, "t", "w", 30))
    assert isinstance(claimed, Claimed)
    error = JobError(Reason.ERROR, "ValueError", "it broke")
    await runtime.ledger.apply(Retry(job.id, "t", claimed.job.seq + 1, error, 3600))
    assert await reschedule_job(job.id, runtime, delay=timedelta(0)) is RescheduleAnswer.MOVED
    moved = await job_of(runtime, job)
    assert (moved.status, moved.due_at, moved.attempt) == (Status.RETRYING, clock.now, 1)


async def test_a_job_that_started_or_ended_stays_as_it_is(runtime: Runtime) -> None:
    queued = await kiq(runtime)
    assert await reschedule_job(queued.id, runtime, delay=HOUR) is RescheduleAnswer.STARTED
    claimed = await runtime.ledger.apply(Claim(queued.id, "t", "w", 30))
    assert isinstance(claimed, Claimed)
    assert await reschedule_job(queued.id, runtime, delay=HOUR) is RescheduleAnswer.STARTED
    await runtime.ledger.apply(Complete(queued.id, "t", claimed.job.seq + 1, "1", 60))
    before = await job_of(runtime, queued)
    assert await reschedule_job(queued.id, runtime, delay=HOUR) is RescheduleAnswer.ENDED
    assert await job_of(runtime, queued) == before


async def test_a_dispatcher_that_read_the_old_time_publishes_nothing(runtime: Runtime) -> None:
    job = await kiq(runtime, delay=timedelta(seconds=1))
    await reschedule_job(job.id, runtime, delay=HOUR)
    assert await runtime.ledger.change(publish_due(job, republish_after_s=30)) is None


@pytest.mark.parametrize(
    ("when", "error"),
    [
        ({}, InvalidOption),
        ({"at": datetime(2026, 1, 1)}, NaiveDatetime),
        ({"delay": -HOUR}, InvalidOption),
        ({"delay": HOUR, "at": datetime(2026, 1, 1, tzinfo=UTC)}, InvalidOption),
    ],
)
async def test_a_wrong_time_moves_nothing(
    runtime: Runtime, when: dict[str, Any], error: type[Exception]
) -> None:
    job = await kiq(runtime, delay=HOUR)
    with pytest.raises(error):
        await reschedule_job(job.id, runtime, **when)
    assert await job_of(runtime, job) == job


async def test_a_job_that_is_not_there_cannot_be_moved(runtime: Runtime) -> None:
    with pytest.raises(JobNotFound):
        await reschedule_job(new_job_id(), runtime, delay=HOUR)
