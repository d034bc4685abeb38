"""From a kiq to its end, through real servers and a real worker process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api_shared.client.follow.handle import CancelAnswer
from api_shared.errors import (
    InvalidArguments,
    InvalidJobId,
    InvalidOption,
    JobCancelled,
    JobFailed,
    JobIdTaken,
    JobNotFound,
    NaiveDatetime,
    ResultTimeout,
    TooLarge,
    UnknownQueue,
    UnknownTask,
)
from api_shared.job import Reason, Status, new_job_id
from api_shared.ledger.protocol import JobFilter
from api_shared.ledger.transitions import request_cancel
from api_shared.testing.servers import Services
from api_shared.testing.servers.process_identity import ProcessIdentity
from fixtures.workers import LONG_S, Platform, platform_on, until
from jobs import tasks
from jobs.broker import broker

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """With one worker that all tests of this module share."""
    folder = tmp_path_factory.mktemp("way")
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with platform_on(services, folder, monkeypatch) as opened:
            await opened.start(broker)
            await opened.worker("jobs.main:broker")
            yield opened


def args(task: Any, **values: Any) -> Any:
    return task.contract.args(**values)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# Doors.


async def test_a_contract_a_task_and_a_kicker_are_one_door(platform: Platform) -> None:
    by_contract = await tasks.add.contract.kiq(args(tasks.add, a=1, b=2), priority=9, owner="ada")
    by_task = await tasks.add.kiq(3, b=4)
    kicker = tasks.add.kicker().with_labels(priority=9, owner="ada", correlation_id="c-1", x="y")
    by_kicker = await kicker.kiq(5, 6)

    handles = (by_contract, by_task, by_kicker)
    assert [await handle.result(LONG_S) for handle in handles] == [3, 7, 11]
    first, second, third = [
        await platform.job(handle) for handle in (by_contract, by_task, by_kicker)
    ]
    assert (first.priority, first.owner, first.correlation_id) == (9, "ada", None)
    assert (second.priority, second.owner) == (0, None)
    assert (third.priority, third.owner, third.correlation_id) == (9, "ada", "c-1")
    assert third.labels == {"x": "y"}
    assert tasks.add.labels == {}, "a kicker's labels are its own"
    for job in (first, second, third):
        assert [entry.status for entry in job.history] == ["queued", "processing", "completed"]
        assert job.expires_at is not None
        assert job.due_at is None


async def test_a_task_by_name_without_its_function_is_a_door_too(platform: Platform) -> None:
    contract = broker.contract("add")
    handle = await contract.kiq(contract.args(a=20, b=22))
    assert await handle.result(LONG_S) == 42


async def test_taskiqs_own_wait_result_gets_the_result(platform: Platform) -> None:
    handle = await tasks.add.kiq(1, 2)
    found = await handle.wait_result(timeout=LONG_S)
    assert (found.is_err, found.return_value) == (False, 3)
    assert await handle.is_ready()
    again = await broker.result_backend.get_result(handle.task_id)
    assert again.return_value == 3


async def test_a_watcher_sees_each_status_once_and_in_order(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.report.kiq(str(tmp_path), "watched", 10)
    statuses, progress = [], []
    async with asyncio.timeout(LONG_S):
        async for event in handle.watch():
            if event.kind == "status":
                statuses.append(event.status)
            elif event.progress is not None:
                progress.append(event.progress.done)
                (tmp_path / "watched.go").touch()
    assert statuses == [Status.QUEUED, Status.PROCESSING, Status.COMPLETED]
    assert progress, "progress was told"
    assert progress == sorted(progress)


async def test_a_result_that_does_not_come_in_time_says_where_the_job_stands(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.hold.kiq(str(tmp_path), "held")
    await until((tmp_path / "held.started").exists)
    with pytest.raises(ResultTimeout, match=r"was still processing after 0\.2 s"):
        await handle.result(timeout=0.2)
    (tmp_path / "held.go").touch()
    assert await handle.result(LONG_S) == 1
    assert await handle.status() is Status.COMPLETED


async def test_a_job_kiqed_twice_with_its_id_is_one_job(platform: Platform, tmp_path: Path) -> None:
    job_id = new_job_id()
    one = args(tasks.note, folder=str(tmp_path), word="once")
    first = await tasks.note.contract.kiq(one, job_id=job_id)
    second = await tasks.note.contract.kiq(one, job_id=job_id.upper())
    assert first.task_id == second.task_id == job_id
    await second.result(LONG_S)
    third = await tasks.note.contract.kiq(one, job_id=job_id)
    assert await third.status() is Status.COMPLETED
    assert lines(tmp_path / "notes") == ["once"]
    other = args(tasks.note, folder=str(tmp_path), word="other")
    with pytest.raises(JobIdTaken, match="with other arguments"):
        await tasks.note.contract.kiq(other, job_id=job_id)


async def test_wrong_calls_are_clear_errors_and_leave_nothing(platform: Platform) -> None:
    before = len(await platform.ledger.find(JobFilter(), limit=1000))
    add, right = tasks.add.contract, args(tasks.add, a=1, b=2)
    naive = datetime(2030, 1, 1)
    with pytest.raises(InvalidJobId, match="'no id' is not a job id"):
        await add.kiq(right, job_id="no id")
    with pytest.raises(InvalidJobId):
        broker.handle("no id")
    with pytest.raises(JobNotFound):
        await broker.handle(new_job_id()).status()
    with pytest.raises(JobNotFound):
        await broker.handle(new_job_id()).result(timeout=5)
    with pytest.raises(JobNotFound):
        await broker.handle(new_job_id()).cancel()
    with pytest.raises(NaiveDatetime, match="has no time zone"):
        await add.kiq(right, at=naive)
    with pytest.raises(InvalidOption, match="priority=11"):
        await add.kiq(right, priority=11)
    with pytest.raises(InvalidOption, match="delay"):
        await add.kiq(right, delay=timedelta(seconds=-1))
    with pytest.raises(InvalidOption, match="owner"):
        await add.kiq(right, owner="")
    with pytest.raises(InvalidArguments, match="b: Field required"):
        await tasks.add.kiq(1)  # type: ignore[call-overload]
    with pytest.raises(InvalidArguments, match="a: Input should be a valid integer"):
        await tasks.add.kiq("one", 2)  # type: ignore[call-overload]
    with pytest.raises(InvalidArguments, match="c: Extra inputs are not permitted"):
        await tasks.add.kiq(a=1, b=2, c=3)  # type: ignore[call-overload]
    with pytest.raises(InvalidArguments, match="text: String should have at most 5"):
        await tasks.limited_text.kiq("sixsix")
    with pytest.raises(TooLarge, match="MAX_ARGUMENTS_BYTES"):
        await tasks.length.kiq("x" * 1024 * 1024)
    with pytest.raises(UnknownQueue, match="no queue named 'nowhere'; known: taskiq, critical"):
        await tasks.add.kicker().with_labels(queue_name="nowhere").kiq(1, 2)
    with pytest.raises(InvalidOption, match="priority='high'"):
        await tasks.add.kicker().with_labels(priority="high").kiq(1, 2)
    with pytest.raises(UnknownTask, match="no contract named 'nothing'; known: add"):
        broker.contract("nothing")
    assert len(await platform.ledger.find(JobFilter(), limit=1000)) == before


async def test_arguments_just_below_the_limit_arrive_whole(platform: Platform) -> None:
    handle = await tasks.length.kiq("x" * (1024 * 1024 - 100))
    assert await handle.result(LONG_S) == 1024 * 1024 - 100
    escaped = await tasks.length.kiq("\ud7ff\U0001f600é" * 1000)
    assert await escaped.result(LONG_S) == 3000


# Cancel.


async def test_a_job_that_waits_is_cancelled_at_once(platform: Platform, tmp_path: Path) -> None:
    one = args(tasks.note, folder=str(tmp_path), word="never")
    handle = await tasks.note.contract.kiq(one, delay=timedelta(hours=1))
    assert await handle.status() is Status.SCHEDULED
    assert await handle.cancel() is CancelAnswer.CANCELLED
    assert await handle.cancel() is CancelAnswer.TOO_LATE
    with pytest.raises(JobCancelled):
        await handle.result(LONG_S)
    found = await handle.wait_result(timeout=LONG_S)
    assert isinstance(found.error, JobCancelled)


async def test_a_running_job_is_cancelled(platform: Platform, tmp_path: Path) -> None:
    handle = await tasks.hold.kiq(str(tmp_path), "running")
    await until((tmp_path / "running.started").exists)
    assert await handle.cancel() is CancelAnswer.REQUESTED
    with pytest.raises(JobCancelled):
        await handle.result(LONG_S)
    assert (tmp_path / "running.cancelled").exists()
    job = await platform.job(handle)
    assert (job.status, job.attempt, job.due_at) == (Status.CANCELLED, 0, None)


async def test_a_running_synchronous_job_is_cancelled_and_its_process_ends(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.block.kiq(str(tmp_path), "deaf")
    started = tmp_path / "deaf.started"
    await until(lambda: lines(started))
    assert await handle.cancel() is CancelAnswer.REQUESTED
    with pytest.raises(JobCancelled):
        await handle.result(LONG_S)
    await until(lambda: ProcessIdentity.of(int(lines(started)[0])) is None)


async def test_a_cancel_outlives_a_failure_of_the_attempt_it_came_for(
    platform: Platform, tmp_path: Path
) -> None:
    """The flag was written while the attempt was failing: its next attempt is not run."""
    one = args(tasks.hold_and_fail, folder=str(tmp_path), name="late")
    handle = await tasks.hold_and_fail.contract.kiq(one)
    await until((tmp_path / "late.started").exists)
    # As `cancel` does, but the worker is not told before its next heartbeat.
    assert await platform.ledger.change(request_cancel(handle.task_id)) is not None
    (tmp_path / "late.go").touch()
    job = await platform.status_of(handle, Status.CANCELLED, Status.COMPLETED, Status.FAILED)
    assert job.status is Status.CANCELLED
    assert len(lines(tmp_path / "late.attempts")) == 1


# Results.


async def test_a_number_that_no_database_can_hold_is_a_result(platform: Platform) -> None:
    handle = await tasks.odd_result.kiq("huge")
    assert await handle.result(LONG_S) == 2**70
    assert (await handle.wait_result(timeout=LONG_S)).return_value == 2**70


@pytest.mark.parametrize("kind", ["surrogate", "bytes", "object", "cycle"])
async def test_what_json_cannot_say_fails_the_job_for_good(platform: Platform, kind: str) -> None:
    handle = await tasks.odd_result.kiq(kind)
    with pytest.raises(JobFailed, match="invalid_result"):
        await handle.result(LONG_S)
    job = await platform.job(handle)
    assert (job.attempt, job.error and job.error.reason) == (1, Reason.INVALID_RESULT)


async def test_a_number_that_is_none_fails_the_job_for_good(platform: Platform) -> None:
    handle = await tasks.ratio.kiq(0.0)
    with pytest.raises(JobFailed, match="invalid_result"):
        await handle.result(LONG_S)


async def test_a_result_that_its_contract_did_not_promise_fails_for_good(
    platform: Platform,
) -> None:
    handle = await tasks.wrong_result.kiq()
    with pytest.raises(JobFailed, match="Input should be a valid integer"):
        await handle.result(LONG_S)
    assert (await platform.job(handle)).attempt == 1


async def test_a_result_over_the_limit_fails_for_good_and_says_what_to_do(
    platform: Platform,
) -> None:
    fits = await tasks.big_result.kiq(1024 * 1024 - 2)
    over = await tasks.big_result.kiq(1024 * 1024)
    with pytest.raises(JobFailed, match=r"invalid_result.*store it and pass a reference"):
        await over.result(LONG_S)
    assert len(await fits.result(LONG_S)) == 1024 * 1024 - 2


# Failures.


async def test_a_job_that_fails_is_tried_again(platform: Platform) -> None:
    handle = await tasks.flaky.kiq(2)
    assert await handle.result(LONG_S) == 3
    job = await platform.job(handle)
    assert (job.attempt, job.claim_no) == (2, 3)
    wanted = [
        *("queued", "processing", "retrying"),
        *("queued", "processing", "retrying"),
        *("queued", "processing", "completed"),
    ]
    assert [entry.status for entry in job.history] == wanted
    assert job.error is None


async def test_a_job_that_fails_each_time_is_a_dead_letter_and_told_once(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.hopeless.kiq(str(tmp_path))
    with pytest.raises(JobFailed, match="there is no hope"):
        await handle.result(LONG_S)
    job = await platform.status_of(handle, Status.FAILED)
    assert (job.attempt, job.error and job.error.reason) == (3, Reason.ERROR)
    assert lines(tmp_path / "hopeless") == ["attempt"] * 3
    told = await until(lambda: lines(tmp_path / "on_failure"))
    assert told == [handle.task_id, "error"]

    async def is_settled() -> bool:
        found = await platform.job(handle)
        return found.failure_told and found.due_at is None and found.expires_at is not None

    await until(is_settled)
    dead = [body for reason, body in platform.dead_letters() if reason == "error"]
    assert [json.loads(body)["task_id"] for body in dead if handle.task_id in body] == [
        handle.task_id
    ]


async def test_a_hook_that_takes_longer_than_the_lease_is_told_once(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.mourned.kiq(str(tmp_path), 9.0)
    await platform.status_of(handle, Status.FAILED)

    async def is_settled() -> bool:
        return (await platform.job(handle)).failure_told

    await until(is_settled)
    assert lines(tmp_path / "on_failure") == [handle.task_id, "error"]


async def test_a_task_may_discard_its_job(platform: Platform, tmp_path: Path) -> None:
    handle = await tasks.discard.kiq(str(tmp_path), "not wanted any more")
    with pytest.raises(JobFailed, match=r"discarded.*not wanted any more"):
        await handle.result(LONG_S)
    assert (await platform.job(handle)).attempt == 1
    await until(lambda: lines(tmp_path / "on_failure") == [handle.task_id, "discarded"])


async def test_what_the_contract_calls_permanent_fails_at_once(platform: Platform) -> None:
    handle = await tasks.forbidden.kiq()
    with pytest.raises(JobFailed, match=r"permanent_error.*not today"):
        await handle.result(LONG_S)
    assert (await platform.job(handle)).attempt == 1


async def test_a_snooze_costs_no_attempt(platform: Platform) -> None:
    handle = await tasks.snooze.kiq(3, 0.1)
    assert await handle.result(LONG_S) == [1, 4]
    job = await platform.job(handle)
    assert (job.attempt, job.lost) == (0, 0)
    assert [e.note for e in job.history if e.status is Status.RETRYING] == ["snoozed"] * 3


# Limits.


async def test_a_soft_limit_lets_the_body_clean_up(platform: Platform, tmp_path: Path) -> None:
    handle = await tasks.slow.kiq(str(tmp_path), "slow")
    with pytest.raises(JobFailed, match=r"time_limit.*soft limit of 0\.3 s"):
        await handle.result(LONG_S)
    assert (tmp_path / "slow.cleaned").exists()


async def test_a_body_that_will_not_stop_fails_at_its_hard_limit(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.stubborn.kiq(str(tmp_path), "deaf")
    with pytest.raises(JobFailed, match=r"time_limit.*limit of 0\.8 s"):
        await handle.result(LONG_S)
    assert not (tmp_path / "deaf.ended").exists()
    (tmp_path / "deaf.go").touch()
    await until((tmp_path / "deaf.ended").exists)
    job = await platform.job(handle)
    assert (job.status, job.result_json) == (Status.FAILED, None)


async def test_a_synchronous_body_that_will_not_stop_is_killed_at_its_hard_limit(
    platform: Platform,
) -> None:
    handle = await tasks.block_limited.kiq()
    with pytest.raises(JobFailed, match="time_limit"):
        await handle.result(LONG_S)


async def test_a_synchronous_body_that_dies_costs_nobody_but_its_job(platform: Platform) -> None:
    dead = await tasks.crash_sync.kiq()
    alive = await tasks.square.kiq(3)
    with pytest.raises(JobFailed, match="its process was"):
        await dead.result(LONG_S)
    assert (await alive.result(LONG_S))[0] == 9


# What a body has at hand.


async def test_a_synchronous_task_runs_in_a_process_of_its_own(platform: Platform) -> None:
    first, second = await tasks.square.kiq(3), await tasks.square.kiq(4)
    (nine, one), (sixteen, other) = await first.result(LONG_S), await second.result(LONG_S)
    assert (nine, sixteen) == (9, 16)
    workers = {info.pid for info in await platform.ledger.workers()}
    assert len({one, other, os.getpid(), *workers}) == 3 + len(workers)
    assert await first.status() is Status.COMPLETED


async def test_jobs_that_run_side_by_side_have_dependencies_of_their_own(
    platform: Platform,
) -> None:
    handles = [
        await tasks.dependencies.kicker().with_labels(mark=f"m{number}").kiq(f"w{number}")
        for number in range(30)
    ]
    for number, handle in enumerate(handles):
        found = await handle.result(LONG_S)
        assert found["word"] == f"w{number}"
        assert found["ids"] == [handle.task_id] * 3
        assert found["open"] is True
        assert found["labels"]["mark"] == f"m{number}"


async def test_progress_is_in_the_ledger_and_in_taskiqs_own_words(
    platform: Platform, tmp_path: Path
) -> None:
    handle = await tasks.report.kiq(str(tmp_path), "told", 5)

    async def has_progress() -> bool:
        job = await platform.job(handle)
        return job.progress is not None and job.progress.done == 5

    await until(has_progress)
    shown = await handle.get_progress()
    assert shown is not None
    assert shown.meta is not None
    assert shown.meta["total"] == 5
    (tmp_path / "told.go").touch()
    assert await handle.result(LONG_S) == 5
