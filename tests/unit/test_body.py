"""A body and its limits: whatever it does becomes an outcome, and it can always be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from taskiq import Context, NoResultError, TaskiqDepends, TaskiqState
from taskiq.message import TaskiqMessage

from api_shared import Discard, JobBroker, Snooze
from api_shared.client.bind.task import JobTask
from api_shared.errors import SoftTimeLimitExceeded, TimeLimitExceeded
from api_shared.job import Reason
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.testing import default_settings
from api_shared.testing.waiting import until
from api_shared.worker.context import JobContext
from api_shared.worker.job_process import ProcessExecutor, Returned, ServerSlow
from api_shared.worker.run import execute as body_module
from api_shared.worker.run.execute import AROUND_PROCESS_S, execute
from api_shared.worker.run.held_claim import HeldClaim, RunningTask, Stop
from api_shared.worker.run.outcome import (
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    LostClaim,
    Outcome,
    Snoozed,
)
from fixtures.doubles import Clock
from fixtures.ledgers import claimed, inserted

HELD = 0.02
"""Seconds: a limit that a test waits for."""


@pytest.fixture
def broker() -> Iterator[JobBroker]:
    yield JobBroker("own")
    del JobBroker.made["own"]


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "STOP_GRACE_S", 0.02)


@pytest.fixture
async def claim() -> HeldClaim:
    return await a_claim()


async def a_claim(args_json: str = "{}", **fields: Any) -> HeldClaim:
    ledger = MemoryLedger(Clock())
    job = await inserted(ledger, args_json=args_json, **fields)
    job, token = await claimed(ledger, job.id)
    return HeldClaim(job, token, ledger, MemoryNotifier())


async def outcome_of(
    task: JobTask[Any, Any],
    claim: HeldClaim,
    *,
    executor: ProcessExecutor | None = None,
    **settings: Any,
) -> Outcome:
    message = TaskiqMessage(
        task_id=claim.job.id,
        task_name=claim.job.task,
        labels={"tenant": "blue"},
        args=[],
        kwargs={},
    )
    async with asyncio.timeout(10):
        return await execute(
            task,
            claim,
            message,
            settings=default_settings(**settings),
            executor=executor or ProcessExecutor(),
            slot=None,
        )


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


# Ends.


async def test_a_result_is_done_as_json(broker: JobBroker) -> None:
    @broker.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    assert await outcome_of(add, await a_claim('{"a": 41}')) == Completed(42, "42")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Snooze(90), Snoozed(90)), (NoResultError(), Completed(None, "null"))],
)
async def test_what_a_body_says_by_raising_is_heard(
    broker: JobBroker, claim: HeldClaim, error: Exception, outcome: Outcome
) -> None:
    @broker.task
    async def say() -> None:
        raise error

    assert await outcome_of(say, claim) == outcome


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Discard("x"), Reason.DISCARDED),
        (OSError("x"), Reason.ERROR),
        (SystemExit(1), Reason.ERROR),
        (KeyboardInterrupt(), Reason.ERROR),
        (asyncio.CancelledError(), Reason.ERROR),
        (GeneratorExit(), Reason.ERROR),
        (TimeoutError(), Reason.ERROR),
    ],
)
async def test_nothing_that_a_body_raises_goes_further(
    broker: JobBroker, claim: HeldClaim, error: BaseException, reason: Reason
) -> None:
    @broker.task
    async def escape() -> None:
        raise error

    outcome = failed(await outcome_of(escape, claim))
    assert outcome.error.reason is reason
    assert not isinstance(outcome.exception, (SystemExit, asyncio.CancelledError))


@pytest.mark.parametrize(
    ("value", "settings"), [("many", {}), (10**4000, {"max_result_bytes": 1024})]
)
async def test_a_result_that_cannot_be_kept_is_a_failure_for_good(
    broker: JobBroker, claim: HeldClaim, value: Any, settings: dict[str, Any]
) -> None:
    @broker.task
    async def wrong() -> int:
        result: int = value
        return result

    outcome = failed(await outcome_of(wrong, claim, **settings))
    assert (outcome.error.reason, outcome.permanent) == (Reason.INVALID_RESULT, True)


async def test_arguments_that_no_longer_validate_are_a_failure_for_good(broker: JobBroker) -> None:
    @broker.task
    async def add(a: int) -> int:
        return a

    outcome = failed(await outcome_of(add, await a_claim('{"b": 1}')))
    assert (outcome.error.reason, outcome.permanent) == (Reason.INVALID_ARGUMENTS, True)


# Limits.


async def test_a_body_is_cancelled_at_its_soft_limit_and_may_clean_up(
    broker: JobBroker, claim: HeldClaim
) -> None:
    cleaned: list[bool] = []

    @broker.task(soft_timeout=HELD, timeout=10)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    outcome = failed(await outcome_of(slow, claim))
    assert cleaned == [True]
    assert outcome.error.reason is Reason.TIME_LIMIT
    assert isinstance(outcome.exception, SoftTimeLimitExceeded)
    assert "in slow" in outcome.error.traceback, "it says where the body was"


async def test_a_body_that_returns_at_its_soft_limit_is_done(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task(soft_timeout=HELD, timeout=10)
    async def partial() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "what there is"
        return ""

    assert await outcome_of(partial, claim) == Completed("what there is", '"what there is"')


async def test_a_body_that_swallows_its_stop_is_left_behind_at_the_hard_limit(
    broker: JobBroker, claim: HeldClaim
) -> None:
    release = asyncio.Event()

    @broker.task(soft_timeout=HELD, timeout=2 * HELD)
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    outcome = failed(await outcome_of(stubborn, claim))
    assert claim.running is not None, "who leaves it behind must know of it"
    assert isinstance(outcome.exception, TimeLimitExceeded)
    assert outcome.error.reason is Reason.TIME_LIMIT
    release.set()


@pytest.mark.parametrize(
    ("reason", "outcome"), [(Stop.CANCEL, Cancelled()), (Stop.LOST, LostClaim())]
)
async def test_a_body_that_saves_after_its_soft_limit_can_still_be_stopped(
    broker: JobBroker, claim: HeldClaim, reason: Stop, outcome: Outcome
) -> None:
    saving = asyncio.Event()

    @broker.task(soft_timeout=HELD, timeout=100)
    async def slow(job: JobContext = TaskiqDepends()) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert job.stop_requested
            saving.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(outcome_of(slow, claim))
    await saving.wait()
    claim.stop(reason)
    assert await running == outcome


async def test_a_body_may_save_at_its_soft_limit_and_ask_for_more_time(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task(soft_timeout=HELD, timeout=100)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Snooze(5, "saved half") from None

    assert await outcome_of(slow, claim) == Snoozed(5, "saved half")


async def test_a_limit_of_the_settings_holds_where_the_contract_names_none(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task
    async def slow() -> None:
        await asyncio.Event().wait()

    outcome = failed(await outcome_of(slow, claim, task_soft_time_limit=HELD, task_time_limit=10))
    assert isinstance(outcome.exception, SoftTimeLimitExceeded)


async def test_a_timeout_of_the_bodys_own_is_no_limit_of_ours(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task
    async def inner() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "handled"
        return ""

    assert await outcome_of(inner, claim) == Completed("handled", '"handled"')


class SlowCompute(ProcessExecutor):
    async def run(self, *_: Any, **__: Any) -> Any:
        raise ServerSlow("importing sklearn took longer than 60 s")


async def test_a_fork_server_that_is_slow_to_start_costs_a_job_no_attempt(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task
    def crunch() -> None: ...

    outcome = await outcome_of(crunch, claim, executor=SlowCompute())
    assert isinstance(outcome, Snoozed)
    assert "fork server" in outcome.why


class QuickCompute(ProcessExecutor):
    async def run(self, *_: Any, **__: Any) -> Any:
        return Returned(b"1")


@pytest.mark.parametrize("hangs", ["at its start", "at its end"])
async def test_a_dependency_of_a_synchronous_task_has_a_limit_too(
    broker: JobBroker, claim: HeldClaim, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    monkeypatch.setattr(body_module, "AROUND_PROCESS_S", HELD)

    async def connection() -> AsyncGenerator[int, None]:
        if hangs == "at its start":
            await asyncio.Event().wait()
        yield 1
        await asyncio.Event().wait()

    @broker.task(timeout=HELD)
    def crunch(number: int = TaskiqDepends(connection)) -> int:
        return number

    outcome = failed(await outcome_of(crunch, claim, executor=QuickCompute()))
    assert outcome.error.reason is Reason.TIME_LIMIT
    assert isinstance(outcome.exception, TimeLimitExceeded)


async def test_a_synchronous_task_may_block_the_loop_no_longer_than_its_limit_and_some(
    broker: JobBroker, claim: HeldClaim
) -> None:
    seen: list[RunningTask | None] = []

    @broker.task(timeout=60)
    def crunch(_: None = TaskiqDepends(lambda: seen.append(claim.running))) -> int:
        return 1

    assert await outcome_of(crunch, claim, executor=QuickCompute()) == Completed(1, "1")
    assert [running and running.soft_limit_s for running in seen] == [60 + AROUND_PROCESS_S]


# Stops.


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(Stop.CANCEL, Cancelled()), (Stop.DRAIN, Interrupted()), (Stop.LOST, LostClaim())],
)
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_stopped_body_ends_by_the_reason_of_its_stop(
    broker: JobBroker, claim: HeldClaim, reason: Stop, outcome: Outcome, swallows: bool
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @broker.task
    async def work() -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                if not swallows:
                    raise

    running = asyncio.create_task(outcome_of(work, claim))
    await started.wait()
    claim.stop(reason)
    assert await running == outcome
    release.set()


async def test_a_stop_that_came_before_the_body_began_is_no_stop_missed(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task
    async def work() -> None:
        await asyncio.Event().wait()

    claim.stop(Stop.DRAIN)
    assert await outcome_of(work, claim) == Interrupted()


@pytest.mark.parametrize("stop", [None, Stop.CANCEL])
async def test_a_body_may_clean_up_for_a_moment_though_its_hard_limit_has_come(
    broker: JobBroker,
    claim: HeldClaim,
    monkeypatch: pytest.MonkeyPatch,
    stop: Stop | None,
) -> None:
    monkeypatch.setattr(body_module, "MIN_GRACE_S", 8.0)
    cleaned: list[bool] = []

    @broker.task(soft_timeout=HELD, timeout=HELD)
    async def work() -> None:
        if stop is not None:
            claim.stop(stop)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5 * HELD)
            cleaned.append(True)

    await outcome_of(work, claim)
    assert cleaned == [True]
    assert claim.running is None, "it was not left behind"


async def test_the_first_reason_to_stop_stands(broker: JobBroker, claim: HeldClaim) -> None:
    @broker.task
    async def work() -> None:
        claim.stop(Stop.CANCEL)
        claim.stop(Stop.LOST)
        await asyncio.Event().wait()

    assert await outcome_of(work, claim) == Cancelled()


async def test_a_body_that_has_its_result_when_it_is_stopped_is_done(
    broker: JobBroker, claim: HeldClaim
) -> None:
    @broker.task
    async def work() -> int:
        claim.stop(Stop.DRAIN)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 1
        return 0

    assert await outcome_of(work, claim) == Completed(1, "1")


# Dependencies.


async def test_each_job_gets_its_own_dependencies(broker: JobBroker) -> None:
    both = asyncio.Barrier(2)

    async def whose(context: Context = TaskiqDepends()) -> AsyncGenerator[str, None]:
        opened.append(context.message.task_id)
        await both.wait()
        yield context.message.task_id
        closed.append(context.message.task_id)

    opened: list[str] = []
    closed: list[str] = []

    @broker.task
    async def own(
        name: str = TaskiqDepends(whose),
        job: JobContext = TaskiqDepends(),
        context: Context = TaskiqDepends(),
        state: TaskiqState = TaskiqDepends(),
    ) -> list[str]:
        assert state is broker.state
        return [name, job.id, context.message.task_id, context.message.labels["tenant"]]

    claims = [await a_claim(), await a_claim()]
    outcomes = await asyncio.gather(*(outcome_of(own, claim) for claim in claims))
    for claim, outcome in zip(claims, outcomes, strict=True):
        assert isinstance(outcome, Completed)
        assert outcome.value == [claim.job.id] * 3 + ["blue"]
    assert sorted(opened) == sorted(closed)


class Connection:
    """A dependency that notes when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def open(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            self.closed += 1


async def test_dependencies_are_closed_when_the_body_is_stopped(
    broker: JobBroker, claim: HeldClaim
) -> None:
    connection = Connection()

    @broker.task(soft_timeout=HELD, timeout=10)
    async def slow(number: int = TaskiqDepends(connection.open)) -> None:
        await asyncio.Event().wait()

    failed(await outcome_of(slow, claim))
    assert connection.closed == 1


@pytest.mark.parametrize("hangs", [False, True])
async def test_dependencies_are_closed_when_a_later_one_does_not_open(
    broker: JobBroker, claim: HeldClaim, hangs: bool
) -> None:
    connection = Connection()

    async def session(_: int = TaskiqDepends(connection.open)) -> int:
        if hangs:
            await asyncio.Event().wait()
        raise ConnectionError("database away")

    @broker.task(soft_timeout=HELD, timeout=10)
    async def work(number: int = TaskiqDepends(session)) -> None: ...

    outcome = failed(await outcome_of(work, claim))
    assert connection.closed == 1
    assert outcome.error.type == ("SoftTimeLimitExceeded" if hangs else "ConnectionError")


async def test_a_dependency_that_fails_fails_the_attempt(
    broker: JobBroker, claim: HeldClaim
) -> None:
    def database() -> int:
        raise ConnectionError("database away")

    @broker.task
    async def work(number: int = TaskiqDepends(database)) -> None: ...

    outcome = failed(await outcome_of(work, claim))
    assert (outcome.error.type, outcome.permanent) == ("ConnectionError", False)


@pytest.mark.parametrize("asked", ["ack", "requeue", "reject"])
async def test_taskiqs_context_cannot_answer_the_message(
    broker: JobBroker, claim: HeldClaim, asked: str
) -> None:
    @broker.task
    async def steer(context: Context = TaskiqDepends()) -> str:
        answer = getattr(context, asked)()
        if asyncio.iscoroutine(answer):
            await answer
        return "went on"

    outcome = await outcome_of(steer, claim)
    expected: dict[str, Callable[[], bool]] = {
        "ack": lambda: outcome == Completed("went on", '"went on"'),
        "requeue": lambda: outcome == Snoozed(0),
        "reject": lambda: failed(outcome).error.reason is Reason.DISCARDED,
    }
    assert expected[asked]()


async def test_a_body_records_and_recalls(broker: JobBroker, claim: HeldClaim) -> None:
    @broker.task
    async def work(job: JobContext = TaskiqDepends()) -> Any:
        job.progress(1, 2, stage="half")
        await job.record("seen", {"n": 1})
        return [job.recall("seen"), job.recall("unknown")]

    assert await outcome_of(work, claim) == Completed([{"n": 1}, None], '[{"n":1},null]')
    await until(lambda: claim._reporter is not None)
    await claim.settle()
