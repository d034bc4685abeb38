"""`api_shared.testing`: code that kiqs, tested with no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from taskiq import TaskiqDepends
from taskiq.depends.progress_tracker import ProgressTracker, TaskState

from api_shared import Contract, Discard, FailedJob, JobBroker, Snooze, Status
from api_shared.broker import broker as general_broker
from api_shared.broker import running
from api_shared.contracts.general import (
    HEALTH_CHECK,
    HealthCheckArgs,
    HealthCheckResult,
)
from api_shared.contracts.ml import TRAIN_MODEL
from api_shared.errors import (
    InvalidArguments,
    InvalidOption,
    JobCancelled,
    JobFailed,
    NaiveDatetime,
    NotStarted,
    TooLarge,
    UnknownQueue,
)
from api_shared.job import Reason
from api_shared.testing import (
    CannotRunInPlace,
    default_settings,
    recording,
    running_in_place,
)
from api_shared.worker.context import JobContext
from api_shared.worker.job_process import current_job


class GreetArgs(BaseModel):
    name: str


class Nothing(BaseModel):
    pass


@pytest.fixture
def broker() -> Iterator[JobBroker]:
    yield JobBroker("own")
    del JobBroker.made["own"]


# In place.


async def test_the_result_of_a_job_is_there_when_kiq_returns(broker: JobBroker) -> None:
    done: list[str] = []

    @broker.task
    async def greet(name: str) -> str:
        done.append(name)
        return f"Hello, {name}"

    async with running_in_place(broker):
        handle = await greet.kiq("Ada")
        assert done == ["Ada"]
        assert await handle.status() is Status.COMPLETED
        assert await handle.result() == "Hello, Ada"
        assert (await handle.wait_result()).return_value == "Hello, Ada"


async def test_a_job_in_place_goes_through_every_step_of_a_workers_job(broker: JobBroker) -> None:
    @broker.task
    async def greet(name: str) -> str:
        return name

    async with running_in_place(broker):
        handle = await greet.kiq("Ada")
        job = await handle.job()
        events = [event.status async for event in handle.watch()]
    assert [entry.status for entry in job.history] == ["queued", "processing", "completed"]
    assert events == ["queued", "processing", "completed"]
    assert job.claim_no == 1
    assert job.expires_at is not None


async def test_a_model_result_comes_back_as_its_model(broker: JobBroker) -> None:
    @broker.task
    async def greet(name: str) -> GreetArgs:
        return GreetArgs(name=name)

    async with running_in_place(broker):
        assert await (await greet.kiq("Ada")).result() == GreetArgs(name="Ada")


async def test_a_failing_job_is_retried_at_once_and_then_told_as_failed(broker: JobBroker) -> None:
    attempts: list[int] = []
    told: list[FailedJob] = []

    @broker.task(max_retries=2, backoff_s=3600, backoff_cap_s=10_000, on_failure=told.append)
    async def fail(job: JobContext = TaskiqDepends()) -> None:
        attempts.append(job.attempt)
        raise RuntimeError("no such luck")

    async with running_in_place(broker):
        handle = await fail.kiq()
        with pytest.raises(JobFailed, match="no such luck") as raised:
            await handle.result()
    assert raised.value.reason == Reason.ERROR
    assert attempts == [1, 2, 3]
    assert [failed.job_id for failed in told] == [handle.task_id]


async def test_a_job_that_succeeds_on_its_second_attempt_is_completed(broker: JobBroker) -> None:
    @broker.task
    async def flaky(job: JobContext = TaskiqDepends()) -> int:
        if job.attempt == 1:
            raise OSError("once")
        return job.attempt

    async with running_in_place(broker):
        assert await (await flaky.kiq()).result() == 2


async def test_a_snoozed_job_goes_on_at_once_and_costs_no_attempt(broker: JobBroker) -> None:
    rounds: list[int] = []

    @broker.task
    async def wait_for_three(job: JobContext = TaskiqDepends()) -> int:
        rounds.append(job.attempt)
        if len(rounds) < 3:
            raise Snooze(timedelta(hours=1))
        return len(rounds)

    async with running_in_place(broker):
        assert await (await wait_for_three.kiq()).result() == 3
    assert rounds == [1, 1, 1]


async def test_a_job_that_snoozes_for_ever_is_told_to_the_test(broker: JobBroker) -> None:
    @broker.task(task_name="never")
    async def never() -> None:
        raise Snooze(1)

    async with running_in_place(broker):
        with pytest.raises(CannotRunInPlace, match=r"'never'.*still retrying after 100 rounds"):
            await never.kiq()


async def test_a_discarded_job_has_failed_at_once(broker: JobBroker) -> None:
    @broker.task
    async def refuse() -> None:
        raise Discard("not today")

    async with running_in_place(broker):
        handle = await refuse.kiq()
        with pytest.raises(JobFailed, match="not today"):
            await handle.result()
        assert (await handle.job()).attempt == 1


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), KeyError("x")])
async def test_whatever_a_task_raises_stays_in_its_job(
    broker: JobBroker, error: BaseException
) -> None:
    @broker.task(max_retries=0)
    async def escape() -> None:
        raise error

    async with running_in_place(broker):
        handle = await escape.kiq()
        with pytest.raises(JobFailed):
            await handle.result()


async def test_a_result_that_does_not_validate_fails_the_job(broker: JobBroker) -> None:
    @broker.task
    async def count() -> int:
        return "many"  # type: ignore[return-value]

    async with running_in_place(broker):
        with pytest.raises(JobFailed) as raised:
            await (await count.kiq()).result()
    assert raised.value.reason == Reason.INVALID_RESULT


async def test_a_job_may_kiq_another_and_wait_for_it(broker: JobBroker) -> None:
    @broker.task
    async def inner(number: int) -> int:
        return number * 2

    @broker.task
    async def outer(number: int) -> int:
        return await (await inner.kiq(number)).result() + 1

    async with running_in_place(broker):
        assert await (await outer.kiq(20)).result() == 41


async def test_jobs_that_kiq_themselves_without_end_are_stopped(broker: JobBroker) -> None:
    @broker.task(max_retries=0, task_name="again")
    async def again(depth: int) -> None:
        deepest.append(depth)
        handle = await again.kiq(depth + 1)
        await handle.result()

    deepest: list[int] = []
    async with running_in_place(broker):
        with pytest.raises(JobFailed):
            await (await again.kiq(1)).result()
    assert deepest == list(range(1, 21))


async def test_a_synchronous_task_runs_in_a_thread_with_its_progress(broker: JobBroker) -> None:
    @broker.task
    def compute(number: int) -> dict[str, int]:
        current_job().progress(1, 2, "half")
        return {"square": number**2}

    async with running_in_place(broker) as place, place.notifier.subscribe() as events:
        handle = await compute.kiq(7)
        assert await handle.result() == {"square": 49}
        kinds = [event.kind for event in [await events.next(0) for _ in range(3)] if event]
    assert kinds == ["status", "progress", "status"]


async def test_what_a_synchronous_task_raises_counts_as_it_would_in_its_process(
    broker: JobBroker,
) -> None:
    @broker.task(permanent=(ZeroDivisionError,))
    def divide(number: int) -> float:
        return 1 / number

    async with running_in_place(broker):
        with pytest.raises(JobFailed, match="division by zero") as raised:
            await (await divide.kiq(0)).result()
    assert raised.value.reason == Reason.PERMANENT_ERROR


async def test_a_job_for_later_waits_until_its_time_has_come(broker: JobBroker) -> None:
    ran: list[str] = []

    @broker.task
    async def remind(what: str) -> None:
        ran.append(what)

    async with running_in_place(broker) as place:
        late = await remind.kicker().with_labels(delay=7200).kiq("late")
        at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        await remind.kicker().with_labels(at=at).kiq("early")
        assert await late.status() is Status.SCHEDULED
        await place.advance(timedelta(minutes=59))
        assert ran == []
        await place.advance(timedelta(hours=2))
        assert ran == ["early", "late"]
        assert await late.status() is Status.COMPLETED


async def test_a_job_that_kiqs_its_next_run_runs_once_for_each_period(broker: JobBroker) -> None:
    tick = Contract("tick", Nothing, type(None), broker="own")
    ticks: list[int] = []

    async def body(args: Nothing) -> None:
        ticks.append(len(ticks))
        await tick.kiq(args, delay=timedelta(hours=1))

    async with running_in_place(broker, tasks={tick: body}) as place:
        await tick.kiq(Nothing())
        await place.advance(timedelta(hours=3, minutes=1))
    assert ticks == [0, 1, 2, 3]


async def test_a_running_job_can_be_cancelled_in_place(broker: JobBroker) -> None:
    started = asyncio.Event()

    @broker.task
    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async with running_in_place(broker) as place:
        kiq = asyncio.create_task(wait.kiq())
        await started.wait()
        [job_id] = place.ledger._jobs
        await broker.handle(job_id).cancel()
        with pytest.raises(JobCancelled):
            await (await kiq).result()


async def test_the_end_of_the_block_stops_what_still_runs(broker: JobBroker) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @broker.task
    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with running_in_place(broker):
        kiq = asyncio.create_task(wait.kiq())
        await started.wait()
    assert stopped.is_set()
    await kiq


async def test_a_stand_in_runs_for_a_contract_whose_function_lives_elsewhere() -> None:
    async def healthy(args: HealthCheckArgs) -> HealthCheckResult:
        return HealthCheckResult(url=str(args.url), ok=True, latency_ms=1)

    before = dict(general_broker.tasks), general_broker.contracts
    async with running_in_place(general_broker, tasks={HEALTH_CHECK: healthy}):
        args = HealthCheckArgs.model_validate({"url": "https://example.org"})
        handle = await HEALTH_CHECK.kiq(args, owner="ada")
        assert (await handle.result()).ok
        assert (await handle.job()).owner == "ada"
    assert (dict(general_broker.tasks), general_broker.contracts) == before


async def test_a_stand_in_for_a_contract_of_another_broker_is_refused(broker: JobBroker) -> None:
    async def train(args: Any) -> Any: ...

    with pytest.raises(InvalidOption, match="not among the brokers of this block: own"):
        async with running_in_place(broker, tasks={TRAIN_MODEL: train}):
            pass


async def test_a_contract_without_a_function_says_how_to_bring_one(broker: JobBroker) -> None:
    greet = Contract("greet", GreetArgs, str, broker="own")
    broker.know(greet)
    async with running_in_place(broker):
        with pytest.raises(CannotRunInPlace, match="import the module that binds one"):
            await greet.kiq(GreetArgs(name="Ada"))


async def test_dependencies_can_be_overridden_as_with_taskiq(broker: JobBroker) -> None:
    def the_year() -> int:
        raise AssertionError("the real one")

    @broker.task
    async def year(number: int = TaskiqDepends(the_year)) -> int:
        return number

    broker.dependency_overrides[the_year] = lambda: 1815
    async with running_in_place(broker):
        assert await (await year.kiq()).result() == 1815


async def test_taskiqs_own_progress_needs_no_redis(broker: JobBroker) -> None:
    @broker.task
    async def work(tracker: ProgressTracker[str] = TaskiqDepends()) -> None:
        await tracker.set_progress(TaskState.STARTED, meta="half")

    async with running_in_place(broker):
        progress = await (await work.kiq()).get_progress()
    assert progress is not None
    assert progress.meta == "half"


# Recording.


async def test_recording_keeps_what_was_kiqed_and_runs_nothing(broker: JobBroker) -> None:
    @broker.task(task_name="greet")
    async def greet(name: str) -> None:
        raise AssertionError("it ran")

    async with recording(broker) as kiqs:
        handle = await greet.kicker().with_labels(priority=7, owner="ada").kiq(name="Ada")
        await greet.kicker().with_labels(delay=60, tenant="blue").kiq("Bob")
        assert await handle.status() is Status.QUEUED
    first, second = kiqs
    assert (first.task, first.args, first.priority, first.owner) == (
        "greet",
        {"name": "Ada"},
        7,
        "ada",
    )
    assert (second.status, second.labels) == (Status.SCHEDULED, {"tenant": "blue"})


async def test_recording_serves_both_module_brokers_when_none_is_named() -> None:
    async with recording() as kiqs:
        await HEALTH_CHECK.kiq(HealthCheckArgs.model_validate({"url": "https://example.org"}))
        await TRAIN_MODEL.kiq(TRAIN_MODEL.args.model_validate(TRAIN))
    assert [(job.task, job.broker) for job in kiqs] == [
        ("health_check", "general"),
        ("train_model", "ml"),
    ]


TRAIN: dict[str, Any] = {"dataset_id": "digits"}


async def test_a_job_kiqed_twice_under_one_id_is_recorded_once(broker: JobBroker) -> None:
    greet = Contract("greet", GreetArgs, str, broker="own")
    broker.know(greet)
    job_id = "65f0a1b2c3d4e5f6a7b8c9d0"
    async with recording(broker) as kiqs:
        for _ in range(2):
            await greet.kiq(GreetArgs(name="Ada"), job_id=job_id)
    assert [job.id for job in kiqs] == [job_id]


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ({"priority": 11}, InvalidOption),
        ({"queue_name": "nowhere"}, UnknownQueue),
        ({"at": "2030-01-01T00:00:00"}, NaiveDatetime),
    ],
)
async def test_what_a_real_kiq_refuses_is_refused_here_too(
    broker: JobBroker, labels: dict[str, Any], error: type[Exception]
) -> None:
    @broker.task
    async def greet(name: str) -> None: ...

    async with recording(broker) as kiqs:
        with pytest.raises(error):
            await greet.kicker().with_labels(**labels).kiq("Ada")
        with pytest.raises(InvalidArguments):
            await greet.kiq(7)  # type: ignore[call-overload]
        with pytest.raises(TooLarge):
            await greet.kiq("x" * 2_000_000)
    assert kiqs == []


# The broker afterwards, and the machine's environment.


@pytest.fixture(params=[running_in_place, recording])
async def block(request: pytest.FixtureRequest, broker: JobBroker) -> AsyncIterator[Any]:
    yield request.param


async def test_the_broker_is_left_as_it_was(block: Any, broker: JobBroker) -> None:
    results = broker.result_backend
    async with block(broker):
        assert broker.runtime
    with pytest.raises(NotStarted, match="is not started"):
        _ = broker.runtime
    assert broker.result_backend is results


async def test_the_broker_is_left_as_it_was_after_an_error(block: Any, broker: JobBroker) -> None:
    with pytest.raises(ZeroDivisionError):
        async with block(broker):
            raise ZeroDivisionError
    with pytest.raises(NotStarted, match="is not started"):
        _ = broker.runtime


async def test_code_that_starts_and_stops_the_broker_itself_stays_in_the_block(
    broker: JobBroker,
) -> None:
    @broker.task
    async def greet() -> None: ...

    async with recording(broker) as kiqs:
        for _ in range(2):
            async with running(broker):
                await greet.kiq()
    assert len(kiqs) == 2


async def test_the_environment_of_the_machine_is_not_read(
    broker: JobBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_PORT", "no number")
    monkeypatch.setenv("DATABASE_NAME", "production")
    async with recording(broker):
        assert broker.runtime.settings == default_settings()
        assert broker.runtime.settings.database_name == "api_workers"
    async with recording(broker, settings=default_settings(task_max_retries=0)):
        assert broker.runtime.settings.task_max_retries == 0
