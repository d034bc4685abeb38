"""A kiq with a unique key: whose job its handle is, for how long, and how often it is one job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from taskiq import TaskiqMessage, TaskiqMiddleware
from taskiq.kicker import AsyncKicker

from api_shared import Contract, JobBroker, Unique
from api_shared.client.kiq import Accepted, accept
from api_shared.client.options import MAX_KEY, KiqOptions, UniqueFor
from api_shared.client.runtime import Runtime
from api_shared.client.submission import Submission
from api_shared.errors import AcceptanceUnknown, InvalidOption, Unroutable
from api_shared.job import Job, Reason, Status, new_job_id
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Claim, Claimed, Complete, Insert
from api_shared.ledger.protocol import JobFilter
from api_shared.ledger.transitions import cancel_waiting
from api_shared.transport.errors import RabbitUnavailable
from fixtures.doubles import Clock, RecordingPublisher, runtime_on
from fixtures.faulty_ledger import FaultyLedger


class Args(BaseModel):
    project: int = 0
    text: str = ""


CONTRACT = Contract("text.count", Args, int)
BY_PROJECT = Contract("text.index", Args, int, unique=Unique(by=("project",), unique_for="waiting"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def runtime(clock: Clock, publisher: RecordingPublisher) -> Runtime:
    return runtime_on(MemoryLedger(clock), publisher)


async def kiq(
    runtime: Runtime,
    args: Args | None = None,
    *,
    contract: Contract[Any, Any] = CONTRACT,
    unique_key: str | None = "k",
    unique_for: UniqueFor | None = None,
    **options: Any,
) -> Accepted:
    asked = KiqOptions(unique_key=unique_key, unique_for=unique_for, **options)
    return await accept(Submission(contract, args or Args(), asked), runtime)


async def kept(runtime: Runtime) -> list[Job]:
    return await runtime.ledger.find(JobFilter())


# The second kiq.


async def test_a_second_kiq_is_given_the_first_job_and_told_so(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    first = await kiq(runtime, Args(text="a"))
    async with runtime.notifier.subscribe() as events:
        second = await kiq(runtime, Args(text="a"))
        assert await events.next(0) is None, "nothing new has happened"
    assert first == Accepted(first.job)
    assert second == Accepted(first.job, deduplicated=True)
    assert publisher.published == await kept(runtime) == [first.job]


async def test_with_other_arguments_the_first_job_wins_and_that_is_said(runtime: Runtime) -> None:
    first = await kiq(runtime, Args(text="a"))
    assert await kiq(runtime, Args(text="b")) == Accepted(first.job, True, other_arguments=True)


async def test_without_a_key_nothing_is_unique(runtime: Runtime) -> None:
    accepted = [await kiq(runtime, unique_key=None) for _ in range(2)]
    assert not any(each.deduplicated for each in accepted)
    assert len(await kept(runtime)) == 2


async def test_a_job_for_later_holds_its_key_until_then(runtime: Runtime) -> None:
    later = await kiq(runtime, delay=timedelta(hours=1))
    assert (await kiq(runtime)).job.id == later.job.id


async def test_a_kiq_repeated_after_a_lost_answer_is_its_own_job(runtime: Runtime) -> None:
    job_id = new_job_id()
    first = await kiq(runtime, job_id=job_id)
    assert await kiq(runtime, job_id=job_id) == Accepted(first.job)


async def test_a_kiq_repeated_after_a_lost_answer_may_find_its_key_taken(runtime: Runtime) -> None:
    other = await kiq(runtime)
    again = await kiq(runtime, job_id=new_job_id())
    assert (again.job.id, again.deduplicated) == (other.job.id, True)


async def test_a_lost_answer_stays_unknown(clock: Clock) -> None:
    runtime = runtime_on(FaultyLedger(clock, lose_answer={Insert}))
    with pytest.raises(AcceptanceUnknown):
        await kiq(runtime)


# For how long.


async def run(runtime: Runtime, job: Job) -> None:
    """Claim and complete it."""
    claim = Claim(job.id, "token", "w", 30)
    claimed = await runtime.ledger.apply(claim)
    assert isinstance(claimed, Claimed)
    assert await runtime.ledger.apply(Complete(job.id, "token", claimed.job.seq + 1, "1", 60))


@pytest.mark.parametrize("unique_for", ["waiting", "open", None])
async def test_the_key_is_free_once_its_job_has_run(
    runtime: Runtime, unique_for: UniqueFor | None
) -> None:
    first = await kiq(runtime, unique_for=unique_for)
    await run(runtime, first.job)
    assert not (await kiq(runtime, unique_for=unique_for)).deduplicated


async def test_a_period_counts_from_the_acceptance_by_the_ledgers_clock(
    runtime: Runtime, clock: Clock
) -> None:
    hour = timedelta(hours=1)
    first = await kiq(runtime, unique_for=hour)
    await run(runtime, first.job)
    clock.advance(3599)
    assert (await kiq(runtime, unique_for=hour)).job.id == first.job.id
    clock.advance(1)
    second = await kiq(runtime, unique_for=hour)
    assert not second.deduplicated
    clock.advance(3599)
    assert (await kiq(runtime)).job.id == second.job.id


async def test_many_who_come_when_a_period_is_over_are_one_job(
    runtime: Runtime, clock: Clock
) -> None:
    await kiq(runtime, unique_for=timedelta(hours=1))
    clock.advance(3600)
    again = await asyncio.gather(*(kiq(runtime, unique_for=timedelta(hours=1)) for _ in range(10)))
    assert sum(not each.deduplicated for each in again) == 1


async def test_a_period_longer_than_the_retention_is_kept(clock: Clock) -> None:
    runtime = runtime_on(MemoryLedger(clock), retention_s=60)
    first = await kiq(runtime, unique_for=timedelta(days=30))
    await run(runtime, first.job)
    clock.advance(29 * 86_400)
    assert (await kiq(runtime)).job.id == first.job.id
    clock.advance(86_400)
    assert not (await kiq(runtime)).deduplicated


# The contract's key.


async def test_a_contract_makes_its_key_of_arguments(runtime: Runtime) -> None:
    first = await kiq(runtime, Args(project=7, text="a"), contract=BY_PROJECT, unique_key=None)
    same = await kiq(runtime, Args(project=7, text="b"), contract=BY_PROJECT, unique_key=None)
    other = await kiq(runtime, Args(project=8, text="a"), contract=BY_PROJECT, unique_key=None)
    assert (same.job.id, same.other_arguments) == (first.job.id, True)
    assert not other.deduplicated
    assert (first.job.unique_key, first.job.unique_scope) == ('{"project":7}', "waiting")


async def test_a_kiqs_own_key_and_scope_win_over_the_contracts(runtime: Runtime) -> None:
    args = Args(project=7)
    await kiq(runtime, args, contract=BY_PROJECT, unique_key=None)
    own = await kiq(runtime, args, contract=BY_PROJECT, unique_key="own", unique_for="open")
    assert (own.deduplicated, own.job.unique_key, own.job.unique_scope) == (False, "own", "open")


async def test_a_key_of_all_arguments_is_a_digest_where_it_would_be_long(runtime: Runtime) -> None:
    contract = Contract("text.all", Args, int, unique=Unique())
    jobs = [
        (await kiq(runtime, Args(text=text), contract=contract, unique_key=None)).job
        for text in ("short", "x" * 1000, "x" * 1001)
    ]
    assert jobs[0].unique_key == '{"project":0,"text":"short"}'
    assert len({job.unique_key for job in jobs}) == 3
    assert all(len(job.unique_key or "") <= MAX_KEY for job in jobs)


def test_a_contract_that_names_no_argument_of_its_own_is_refused() -> None:
    with pytest.raises(InvalidOption, match="must be arguments: project, text"):
        Contract("text.wrong", Args, int, unique=Unique(by=("projekt",)))


# What is refused.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unique_key": ""}, "1 to 200 characters"),
        ({"unique_key": "x" * 201}, "1 to 200 characters"),
        ({"unique_key": 7}, "a text"),
        ({"unique_key": None, "unique_for": "open"}, "needs a `unique_key`"),
        ({"unique_for": "ever"}, "one of waiting, open"),
        ({"unique_for": timedelta(0)}, "more than 0"),
        ({"unique_for": timedelta(days=3661)}, "at most 3660 days"),
    ],
)
async def test_a_wrong_key_is_an_error_before_anything_is_kept(
    runtime: Runtime, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        await kiq(runtime, **options)
    assert await kept(runtime) == []


async def test_an_unroutable_unique_job_fails_and_frees_its_key(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    """Somebody else may have been given this job: it must not vanish."""
    publisher.error = Unroutable("keywords", "taskiq")
    with pytest.raises(Unroutable):
        await kiq(runtime, unique_for=timedelta(hours=1))
    [failed] = await kept(runtime)
    assert (failed.status, failed.unique_held) == (Status.FAILED, None)
    assert failed.error is not None
    assert failed.error.reason is Reason.UNROUTABLE
    assert failed.due_at is not None, "its dead letter is still to be published"
    publisher.error = None
    assert not (await kiq(runtime)).deduplicated


async def test_a_publish_that_fails_fails_no_unique_kiq(
    runtime: Runtime, publisher: RecordingPublisher
) -> None:
    publisher.error = RabbitUnavailable("not connected")
    first = await kiq(runtime)
    assert (await kiq(runtime)).job.id == first.job.id


# Through taskiq's ways.


@pytest.fixture
def broker() -> Iterator[JobBroker]:
    yield JobBroker("uniques")
    del JobBroker.made["uniques"]


@pytest.fixture
async def started(
    broker: JobBroker, clock: Clock, publisher: RecordingPublisher
) -> AsyncIterator[JobBroker]:
    await broker.use(runtime_on(MemoryLedger(clock), publisher, broker="uniques"))
    yield broker
    await broker.use(None)


class SendsNothing(TaskiqMiddleware):
    """Notes the ids of the messages that were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def post_send(self, message: TaskiqMessage) -> None:
        self.sent.append(message.task_id)


@pytest.mark.parametrize("middlewares", [0, 1])
async def test_the_handle_of_every_way_is_the_first_jobs(
    started: JobBroker, middlewares: int
) -> None:
    noted = [SendsNothing() for _ in range(middlewares)]
    started.add_middlewares(*noted)

    @started.task(task_name="count", unique=Unique(by=("a",)))
    async def count(a: int, b: int = 0) -> int:
        return a + b

    contract: Contract[Any, int] = count.contract
    first = await count.kiq(1)
    by_kicker = await count.kicker().kiq(1, 2)
    by_contract = await contract.kiq(contract.parse((1,), {}))
    plain_kicker: AsyncKicker[Any, Any] = AsyncKicker("count", started, {})
    plain = await plain_kicker.kiq(1)
    ids = {each.task_id for each in (by_kicker, by_contract, plain)}
    assert ids == {first.task_id}
    assert not first.deduplicated
    assert (by_kicker.deduplicated, by_kicker.other_arguments) == (True, True)
    assert (by_contract.deduplicated, by_contract.other_arguments) == (True, False)
    assert all(each.sent == [first.task_id] * 4 for each in noted)


async def test_labels_say_it_too(started: JobBroker) -> None:
    @started.task(task_name="count")
    async def count(a: int) -> int:
        return a

    labelled = count.kicker().with_labels(unique_key="k", unique_for=3600)
    first = await labelled.kiq(1)
    job = await first.job()
    assert (job.unique_key, job.unique_scope, job.labels) == ("k", "period", {})
    assert job.unique_until == job.accepted_at + timedelta(hours=1)
    again = await count.kicker().with_labels(unique_key="k", unique_for="waiting").kiq(1)
    assert (again.task_id, again.deduplicated) == (first.task_id, True)
    with pytest.raises(InvalidOption, match="a number of seconds, or one of waiting, open"):
        await count.kicker().with_labels(unique_key="k", unique_for="ever").kiq(1)


async def test_a_cancelled_job_gives_its_key_back(runtime: Runtime) -> None:
    first = await kiq(runtime, unique_for=timedelta(hours=1), delay=timedelta(minutes=1))
    assert await runtime.ledger.change(cancel_waiting(first.job.id, retention_s=60))
    assert not (await kiq(runtime)).deduplicated
