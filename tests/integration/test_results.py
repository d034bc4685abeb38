"""taskiq's own way to a result: from Redis, and from the ledger when Redis has none or is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from taskiq import AsyncTaskiqTask, TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress, TaskState
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend
from taskiq_redis.exceptions import ResultIsMissingError

from api_shared.client.follow import result_backend
from api_shared.client.follow.result_backend import (
    JobResultBackend,
    decode_result,
    encode_result,
    taskiq_result_of,
)
from api_shared.errors import JobCancelled, JobFailed, JobNotFound
from api_shared.job import Job, JobError, Progress, Reason, Status, new_job_id
from api_shared.notifier.events import StoredResult, status_event
from api_shared.notifier.redis.notifier import RedisNotifier
from api_shared.settings import Settings
from api_shared.testing.waiting import until
from fixtures.faulty_ledger import FaultyLedger
from fixtures.private_valkey import PATIENCE_S, PrivateValkey, be_patient

START = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(
    id="6b024e1c12286d37d7cfe636",
    task="ml.train",
    broker="ml",
    queue="training",
    args_json="{}",
    status=Status.PROCESSING,
    seq=1,
    accepted_at=START,
    started_at=START,
    labels={"run": "7"},
)
COMPLETED = replace(
    JOB,
    status=Status.COMPLETED,
    seq=2,
    ended_at=START + timedelta(seconds=1.5),
    result_json='{"accuracy":0.8,"labels":["\\u00e9",null]}',
)
FAILED = replace(
    COMPLETED,
    status=Status.FAILED,
    result_json=None,
    error=JobError(Reason.TIME_LIMIT, "TimeLimitExceeded", "ran longer than 120 s"),
)
CANCELLED = replace(FAILED, status=Status.CANCELLED, error=None)


class OneJob(FaultyLedger):
    """The record is what the test says it is."""

    job: Job | None = None

    async def get(self, job_id: str) -> Job | None:
        return self.job if self.job and self.job.id == job_id else None


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)
    monkeypatch.setattr(result_backend, "DEADLINE_S", PATIENCE_S)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[PrivateValkey]:
    server = PrivateValkey(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def settings(valkey: PrivateValkey) -> Settings:
    return Settings(redis_url=SecretStr(valkey.url), redis_prefix=uuid4().hex)


@pytest.fixture
def ledger() -> OneJob:
    return OneJob()


@pytest.fixture
async def notifier(settings: Settings) -> AsyncIterator[RedisNotifier]:
    notifier = RedisNotifier(settings)
    await notifier.start()
    yield notifier
    await notifier.close()


@pytest.fixture
async def backend(
    settings: Settings, ledger: OneJob, notifier: RedisNotifier
) -> AsyncIterator[JobResultBackend]:
    backend = JobResultBackend(settings, ledger, notifier)
    await backend.startup()
    yield backend
    await backend.shutdown()


async def tell(notifier: RedisNotifier, job: Job) -> None:
    """As `run_job` does: the last event and the result in one pipeline."""
    result = StoredResult(job.id, encode_result(taskiq_result_of(job)))
    async with notifier.subscribe(job_id=job.id) as subscription:
        notifier.publish(status_event(job), result)
        assert await subscription.next(30) is not None


@pytest.mark.parametrize("source", ["redis", "ledger", "ledger, redis dead"])
@pytest.mark.parametrize("job", [COMPLETED, FAILED, CANCELLED], ids=lambda job: job.status)
async def test_wait_result_returns_how_a_job_ended(
    source: str,
    job: Job,
    valkey: PrivateValkey,
    ledger: OneJob,
    notifier: RedisNotifier,
    backend: JobResultBackend,
) -> None:
    if source == "redis":
        await tell(notifier, job)
        ledger.fail.add("get")
    else:
        ledger.job = job
    if source == "ledger, redis dead":
        valkey.kill()
    task: AsyncTaskiqTask[Any] = AsyncTaskiqTask(job.id, backend)
    result = await task.wait_result(check_interval=0.05, timeout=60)
    assert result.execution_time == 1.5
    assert result.labels == {"run": "7"}
    if job.status is Status.COMPLETED:
        assert not result.is_err
        assert result.return_value == {"accuracy": 0.8, "labels": ["é", None]}
        return
    assert result.is_err
    if job.status is Status.CANCELLED:
        with pytest.raises(JobCancelled, match=job.id):
            result.raise_for_error()
    else:
        with pytest.raises(JobFailed, match=r"failed \(time_limit\): ran longer") as failed:
            result.raise_for_error()
        assert failed.value.job_id == job.id
        assert failed.value.reason == "time_limit"
        assert failed.value.message == "ran longer than 120 s"


async def test_a_job_that_has_not_ended_has_no_result(
    ledger: OneJob, backend: JobResultBackend
) -> None:
    ledger.job = JOB
    assert not await backend.is_result_ready(JOB.id)
    with pytest.raises(ResultIsMissingError):
        await backend.get_result(JOB.id)


async def test_a_stored_failure_is_not_the_end_of_a_job_that_was_requeued(
    backend: JobResultBackend, notifier: RedisNotifier, ledger: OneJob
) -> None:
    await tell(notifier, FAILED)
    assert await notifier.load_result(JOB.id) is not None
    ledger.job = replace(JOB, status=Status.QUEUED, round=2)
    assert not await backend.is_result_ready(JOB.id)
    with pytest.raises(ResultIsMissingError):
        await backend.get_result(JOB.id)


async def test_an_unknown_job_is_said_instead_of_waited_for(backend: JobResultBackend) -> None:
    with pytest.raises(JobNotFound):
        await backend.is_result_ready(new_job_id())
    with pytest.raises(JobNotFound):
        await backend.get_result(new_job_id())


async def test_a_ledger_that_is_away_for_a_moment_does_not_end_a_wait(
    ledger: OneJob, backend: JobResultBackend
) -> None:
    ledger.fail.add("get")
    assert not await backend.is_result_ready(JOB.id)
    ledger.fail.clear()
    ledger.job = COMPLETED
    assert await backend.is_result_ready(JOB.id)


@pytest.mark.parametrize("job", [COMPLETED, FAILED, CANCELLED], ids=lambda job: job.status)
async def test_a_plain_taskiq_client_reads_what_we_store(
    job: Job, settings: Settings, notifier: RedisNotifier
) -> None:
    await tell(notifier, job)
    plain: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(
        settings.redis_url.get_secret_value(),
        serializer=JSONSerializer(),
        prefix_str=f"{settings.redis_prefix}:result",
        protocol=2,
    )
    assert await plain.is_result_ready(job.id)
    read, ours = await plain.get_result(job.id), taskiq_result_of(job)
    await plain.shutdown()
    assert read.return_value == ours.return_value
    assert (type(read.error), str(read.error)) == (type(ours.error), str(ours.error))
    assert read.execution_time == ours.execution_time


def test_what_is_stored_has_the_shape_that_taskiq_redis_writes() -> None:
    result = taskiq_result_of(COMPLETED)
    theirs = JSONSerializer().dumpb(result.model_dump(mode="json"))
    assert json.loads(encode_result(result)) == json.loads(theirs)
    failed = taskiq_result_of(FAILED)
    theirs = JSONSerializer().dumpb(failed.model_dump(mode="json"))
    ours = json.loads(encode_result(failed))
    assert ours.keys() == json.loads(theirs).keys()
    assert ours["error"].keys() == json.loads(theirs)["error"].keys()


def test_a_result_that_utf_8_cannot_hold_is_stored_all_the_same() -> None:
    job = replace(COMPLETED, result_json='"\\ud800"')
    stored = encode_result(taskiq_result_of(job))
    assert decode_result(job.id, stored).return_value == "\ud800"


def test_a_job_that_has_not_ended_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="no result yet"):
        taskiq_result_of(JOB)


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("builtins", "SystemExit", [3]),
        ("builtins", "KeyboardInterrupt", []),
        ("os", "system", ["true"]),
        ("subprocess", "CalledProcessError", [1, "true"]),
        ("api_shared.errors", "JobFailed", ["only one"]),
    ],
)
def test_a_stored_error_cannot_choose_what_is_raised_here(
    module: str, name: str, arguments: list[Any]
) -> None:
    fields = json.loads(encode_result(taskiq_result_of(FAILED)))
    fields["error"] |= {"exc_module": module, "exc_type": name, "exc_message": arguments}
    result = decode_result(JOB.id, json.dumps(fields).encode())
    assert type(result.error) is JobFailed
    assert name in str(result.error)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x80\x04N.",
        b"[]",
        b"{}",
        b"null",
        b'{"is_err":true,"return_value":1,"execution_time":1,"error":null}',
        b'{"is_err":true,"return_value":1,"execution_time":1,"error":"boom"}',
    ],
)
async def test_a_stored_value_that_is_not_a_result_is_passed_over_for_the_ledger(
    stored: bytes,
    valkey: PrivateValkey,
    settings: Settings,
    ledger: OneJob,
    backend: JobResultBackend,
) -> None:
    ledger.job = COMPLETED
    async with Redis.from_url(valkey.url, protocol=2) as client:
        await client.set(f"{settings.redis_prefix}:result:{JOB.id}", stored)
    assert (await backend.get_result(JOB.id)).return_value == COMPLETED.result


async def test_what_taskiqs_receiver_passes_is_not_stored(
    valkey: PrivateValkey, ledger: OneJob, backend: JobResultBackend
) -> None:
    ledger.job = JOB
    await backend.set_result(JOB.id, TaskiqResult(is_err=False, return_value=1, execution_time=0))
    assert not await backend.is_result_ready(JOB.id)


async def test_progress_is_taskiqs_own_or_else_the_jobs(
    ledger: OneJob, backend: JobResultBackend
) -> None:
    ledger.job = JOB
    assert await backend.get_progress(JOB.id) is None
    ledger.job = replace(JOB, progress=Progress(3, 10, "fit"))
    progress = await backend.get_progress(JOB.id)
    assert progress is not None
    assert progress.state == TaskState.STARTED
    assert progress.meta == {"done": 3, "total": 10, "stage": "fit", "message": ""}
    await backend.set_progress(JOB.id, TaskProgress(state="half", meta=[1]))
    progress = await backend.get_progress(JOB.id)
    assert progress is not None
    assert (progress.state, progress.meta) == ("half", [1])


async def test_progress_fails_no_body_while_redis_is_dead(
    valkey: PrivateValkey, ledger: OneJob, backend: JobResultBackend
) -> None:
    valkey.kill()
    ledger.job = replace(JOB, progress=Progress(3))
    await backend.set_progress(JOB.id, TaskProgress(state="half", meta=None))
    progress = await backend.get_progress(JOB.id)
    assert progress is not None
    assert progress.state == TaskState.STARTED


async def test_results_are_read_again_when_redis_is_back(
    valkey: PrivateValkey, notifier: RedisNotifier, backend: JobResultBackend, ledger: OneJob
) -> None:
    ledger.job = JOB
    assert not await backend.is_result_ready(JOB.id)
    valkey.kill()
    assert not await backend.is_result_ready(JOB.id)
    valkey.start()
    ledger.job = None

    async def is_ready() -> bool:
        notifier.publish(
            status_event(COMPLETED), StoredResult(JOB.id, encode_result(taskiq_result_of(FAILED)))
        )
        return await notifier.load_result(JOB.id) is not None

    await until(is_ready)
    assert await backend.is_result_ready(JOB.id)
