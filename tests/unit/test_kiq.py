"""Accepting a job: what is refused with nothing kept, and the three ends of a kiq."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict
from taskiq import TaskiqMessage, TaskiqMiddleware

from api_shared.client.contract import Contract
from api_shared.client.follow.handle import JobHandle
from api_shared.client.job_broker import JobBroker
from api_shared.client.kiq import accept
from api_shared.client.options import KiqOptions
from api_shared.client.runtime import Runtime
from api_shared.client.submission import Submission
from api_shared.errors import (
    AcceptanceUnknown,
    InvalidArguments,
    InvalidJobId,
    InvalidOption,
    JobIdTaken,
    LedgerUnavailable,
    NaiveDatetime,
    TooLarge,
    UnknownQueue,
    Unroutable,
    UsageError,
)
from api_shared.job import Job, JobError, Reason, Status, new_job_id
from api_shared.json_text import MAX_DEPTH
from api_shared.ledger.operations import Insert, Operation
from api_shared.ledger.protocol import JobFilter
from api_shared.ledger.transitions import fail_queued
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.message import decode, encode
from fixtures.doubles import Clock, RecordingPublisher, runtime_on
from fixtures.faulty_ledger import FaultyLedger

V = TypeVar("V")


class Args(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Any = ""


CONTRACT = Contract("text.count", Args, int, queue="keywords")
OTHER = Contract("text.join", Args, int)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> FaultyLedger:
    return FaultyLedger(clock)


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def runtime(ledger: FaultyLedger, publisher: RecordingPublisher) -> Runtime:
    return runtime_on(ledger, publisher)


def asked(text: Any = "x", **options: Any) -> Submission[Any, Any]:
    contract = options.pop("contract", CONTRACT)
    return Submission(contract, Args(text=text), KiqOptions(**options))


async def kiqed(submission: Submission[Any, Any], runtime: Runtime) -> Job:
    accepted = await accept(submission, runtime)
    assert not accepted.deduplicated
    return accepted.job


async def kept(runtime: Runtime) -> list[Job]:
    return await runtime.ledger.find(JobFilter())


# Accepted.


async def test_an_accepted_job_is_in_the_ledger_published_and_told(
    runtime: Runtime, publisher: RecordingPublisher, clock: Clock
) -> None:
    async with runtime.notifier.subscribe(owner="ada") as events:
        job = await kiqed(
            asked(priority=7, owner="ada", correlation_id="c-1", labels={"tenant": "blue"}), runtime
        )
        told = await events.next(0)
    assert await runtime.ledger.get(job.id) == job
    assert publisher.published == [job]
    assert (job.status, job.queue, job.priority, job.seq) == (Status.QUEUED, "keywords", 7, 1)
    assert (job.owner, job.correlation_id, job.labels) == ("ada", "c-1", {"tenant": "blue"})
    assert job.due_at == clock.now + timedelta(seconds=30)
    assert told is not None
    assert (told.kind, told.status, told.seq) == ("status", Status.QUEUED, 1)


async def test_the_record_is_written_before_anything_is_published(
    runtime: Runtime, ledger: FaultyLedger, publisher: RecordingPublisher
) -> None:
    ledger.fail.add(Insert)
    with pytest.raises(LedgerUnavailable):
        await kiqed(asked(), runtime)
    assert publisher.published == []


async def test_a_publish_that_fails_fails_no_kiq(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    publisher.error = RabbitUnavailable("not connected")
    job = await kiqed(asked(), runtime)
    assert await runtime.ledger.get(job.id) == job
    assert job.due_at is not None


async def test_a_job_for_later_is_scheduled_and_not_published(
    runtime: Runtime, publisher: RecordingPublisher, clock: Clock
) -> None:
    in_an_hour = await kiqed(asked(delay=timedelta(hours=1)), runtime)
    at = datetime(2030, 5, 1, tzinfo=UTC)
    on_a_day = await kiqed(asked(at=at), runtime)
    assert [in_an_hour.status, on_a_day.status] == [Status.SCHEDULED] * 2
    assert [in_an_hour.due_at, on_a_day.due_at] == [clock.now + timedelta(hours=1), at]
    assert publisher.published == []


async def test_no_delay_is_now(runtime: Runtime, publisher: RecordingPublisher) -> None:
    job = await kiqed(asked(delay=timedelta(0)), runtime)
    assert publisher.published == [job]


async def test_the_queue_of_a_kiq_wins_over_the_contracts(runtime: Runtime) -> None:
    assert (await kiqed(asked(queue="critical"), runtime)).queue == "critical"
    assert (await kiqed(asked(contract=OTHER), runtime)).queue == "taskiq"


# Refused, with nothing kept.


async def test_an_unroutable_job_is_withdrawn(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    publisher.error = Unroutable("keywords", "taskiq")
    async with runtime.notifier.subscribe() as events:
        with pytest.raises(Unroutable):
            await kiqed(asked(), runtime)
        assert await events.next(0) is None
    assert await kept(runtime) == []


@pytest.mark.parametrize("unique_key", [None, "k"])
async def test_an_unroutable_job_that_could_not_be_withdrawn_is_not_said_to_be(
    runtime: Runtime, ledger: FaultyLedger, publisher: RecordingPublisher, unique_key: str | None
) -> None:
    publisher.error, ledger.fail = Unroutable("keywords", "taskiq"), {"withdraw", "change"}
    with pytest.raises(AcceptanceUnknown) as raised:
        await kiqed(asked(unique_key=unique_key), runtime)
    assert [job.id for job in await kept(runtime)] == [raised.value.job_id]
    assert isinstance(raised.value.__cause__, Unroutable), "it says why, too"


@pytest.mark.parametrize("unique_key", [None, "k"])
async def test_an_unroutable_job_that_has_changed_meanwhile_is_not_said_to_be_withdrawn(
    ledger: FaultyLedger, unique_key: str | None
) -> None:
    class TooLate(RecordingPublisher):
        async def publish_job(self, job: Job) -> None:
            await ledger.change(fail_queued(job, JobError(Reason.ERROR, "Other", "first")))
            raise Unroutable("keywords", "taskiq")

    runtime = runtime_on(ledger, TooLate())
    with pytest.raises(AcceptanceUnknown) as raised:
        await kiqed(asked(unique_key=unique_key), runtime)
    assert [job.id for job in await kept(runtime)] == [raised.value.job_id]


async def test_an_unroutable_repetition_withdraws_nothing(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    job = await kiqed(asked(), runtime)
    publisher.error = Unroutable("keywords", "taskiq")
    assert await kiqed(asked(job_id=job.id), runtime) == job
    assert await kept(runtime) == [job]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"priority": 11}, InvalidOption, "from 0 to 10"),
        ({"priority": -1}, InvalidOption, "from 0 to 10"),
        ({"priority": 2.5}, InvalidOption, "whole number"),
        ({"priority": "9"}, InvalidOption, "whole number"),
        ({"owner": ""}, InvalidOption, "1 to 200"),
        ({"owner": "x" * 201}, InvalidOption, "1 to 200"),
        ({"owner": 7}, InvalidOption, "a text"),
        ({"correlation_id": "x" * 201}, InvalidOption, "correlation_id"),
        ({"queue": "nowhere"}, UnknownQueue, "known: taskiq, critical"),
        ({"at": datetime(2030, 1, 1)}, NaiveDatetime, "tzinfo=UTC"),
        ({"delay": timedelta(seconds=-1)}, InvalidOption, "delay"),
        ({"delay": timedelta(days=4000)}, InvalidOption, "3660 days"),
        ({"delay": timedelta(1), "at": datetime.now(UTC)}, InvalidOption, "together with `delay`"),
        ({"job_id": "mine"}, InvalidJobId, "24 hexadecimal"),
        ({"text": "x" * 1_100_000}, TooLarge, "MAX_ARGUMENTS_BYTES"),
        ({"text": float("nan")}, InvalidArguments, "has no JSON form"),
        ({"labels": {"a": "x" * 2000}}, InvalidOption, "labels"),
        ({"labels": {str(n): "" for n in range(65)}}, InvalidOption, "labels"),
        ({"labels": {str(n): "\U0001f389" * 1000 for n in range(10)}}, InvalidOption, "labels"),
    ],
)
async def test_a_wrong_option_is_an_error_before_anything_is_kept(
    runtime: Runtime,
    publisher: RecordingPublisher,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words) as raised:
        await kiqed(asked(**options), runtime)
    assert isinstance(raised.value, UsageError)
    assert await kept(runtime) == []
    assert publisher.published == []


async def test_arguments_of_just_the_allowed_size_are_taken(ledger: FaultyLedger) -> None:
    runtime = runtime_on(ledger, max_arguments_bytes=1024)
    fitting = 1024 - len('{"text":""}')
    await kiqed(asked("x" * fitting), runtime)
    with pytest.raises(TooLarge) as raised:
        await kiqed(asked("x" * (fitting + 1)), runtime)
    assert (raised.value.size_bytes, raised.value.limit_bytes) == (1025, 1024)


async def test_whatever_is_accepted_can_be_read_by_a_worker(runtime: Runtime) -> None:
    deepest: Any = 1
    for _ in range(MAX_DEPTH - 2):
        deepest = [deepest]
    labels = {"\U0001f389" * 10 + str(n): "\U0001f389" * 70 for n in range(60)}
    job = await kiqed(asked(deepest, labels=labels), runtime)
    message = decode(encode(job), max_bytes=2_000_000)
    assert (message.kwargs, message.labels) == ({"text": deepest}, labels)
    with pytest.raises(InvalidArguments, match="nested deeper than 64"):
        await kiqed(asked([deepest]), runtime)


# One job, however often it is asked for.


async def test_the_same_job_id_twice_is_one_job(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    job_id = new_job_id()
    first = await kiqed(asked(job_id=job_id), runtime)
    second = await kiqed(asked(job_id=job_id.upper()), runtime)
    assert first == second
    assert len(publisher.published) == len(await kept(runtime)) == 1


@pytest.mark.parametrize("other", [asked("y"), asked(contract=OTHER)], ids=["args", "task"])
async def test_the_same_job_id_for_something_else_is_taken(
    runtime: Runtime, other: Submission[Any, Any]
) -> None:
    job = await kiqed(asked(), runtime)
    again = Submission(other.contract, other.args, KiqOptions(job_id=job.id))
    with pytest.raises(JobIdTaken, match="use another job_id"):
        await kiqed(again, runtime)
    assert await kept(runtime) == [job]


async def test_a_lost_answer_is_unknown_and_asking_again_is_safe(
    runtime: Runtime, ledger: FaultyLedger, publisher: RecordingPublisher
) -> None:
    job_id = new_job_id()
    ledger.lose_answer.add(Insert)
    with pytest.raises(AcceptanceUnknown) as raised:
        await kiqed(asked(job_id=job_id), runtime)
    ledger.lose_answer.clear()
    job = await kiqed(asked(job_id=raised.value.job_id), runtime)
    assert await kept(runtime) == [job]
    assert job.due_at is not None, "the dispatcher publishes it: the second kiq does not"
    assert publisher.published == []


class Slow(TaskiqMiddleware):
    """All that a kiq awaits lets others run: its middlewares, its ledger and its publisher do."""

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        await asyncio.sleep(0)
        return message

    async def post_send(self, message: TaskiqMessage) -> None:
        await asyncio.sleep(0)


class SlowLedger(FaultyLedger):
    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        await asyncio.sleep(0)
        verdict = await super().apply(operation, deadline_s=deadline_s)
        await asyncio.sleep(0)
        return verdict


class SlowPublisher(RecordingPublisher):
    async def publish_job(self, job: Job) -> None:
        await asyncio.sleep(0)
        await super().publish_job(job)
        await asyncio.sleep(0)


async def test_a_cancelled_caller_knows_the_id_of_whatever_was_accepted() -> None:
    ends = set()
    for steps in range(20):
        ledger = SlowLedger()
        broker = JobBroker("general").know(CONTRACT).with_middlewares(Slow())
        await broker.use(runtime_on(ledger, SlowPublisher()))
        kiq = asyncio.create_task(CONTRACT.kiq(Args(text="x")))
        for _ in range(steps):
            await asyncio.sleep(0)
        kiq.cancel()
        [ended] = await asyncio.gather(kiq, return_exceptions=True)
        await broker.use(None)
        known = {getattr(ended, "job_id", None) or getattr(ended, "task_id", None)}
        assert {job.id for job in await ledger.find(JobFilter())} <= known
        ends.add(type(ended))
    assert ends == {asyncio.CancelledError, AcceptanceUnknown, JobHandle}
