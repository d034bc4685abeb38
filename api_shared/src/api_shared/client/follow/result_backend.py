"""
The result backend for taskiq's own `wait_result`: results from Redis, otherwise from the ledger.

A result in Redis has the shape that taskiq-redis writes, in JSON. It is read with care: no value
from a store chooses which class is instantiated here.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any, Final

import structlog
from redis.exceptions import RedisError
from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress, TaskState
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend
from taskiq_redis.exceptions import ResultIsMissingError

from api_shared.errors import (
    ApiWorkersError,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LedgerUnavailable,
)
from api_shared.job import Job, Reason, Status
from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.redis.keys import Keys
from api_shared.notifier.redis.notifier import DEADLINE_S, pool_options
from api_shared.settings import Settings

log = structlog.get_logger(__name__)

PROGRESS_STATES: Final = {
    Status.PROCESSING: TaskState.STARTED,
    Status.RETRYING: TaskState.RETRY,
    Status.COMPLETED: TaskState.SUCCESS,
    Status.FAILED: TaskState.FAILURE,
}


class JobResultBackend(RedisAsyncResultBackend[Any]):
    """Made when the broker starts, because the settings are known only then."""

    def __init__(self, settings: Settings, ledger: Ledger, notifier: Notifier) -> None:
        super().__init__(
            settings.redis_address,
            result_px_time=max(1, int(settings.result_ttl_s * 1000)),
            serializer=JSONSerializer(),
            prefix_str=Keys(settings.redis_prefix).results,
            max_connection_pool_size=4,
            **pool_options(),
        )
        self._ledger = ledger
        self._notifier = notifier

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """
        Do nothing: `run_job` has published the result together with the job's last event.

        So both are one pipeline, and no event wakes a reader before its result is there. Taskiq's
        receiver would not pass the outcome here either: the outcome is in the ledger, and an
        attempt that failed and will be retried is no result.
        """

    async def is_result_ready(self, task_id: str) -> bool:
        """False while the ledger is away. Raises `JobNotFound`."""
        try:
            return await self._result(task_id) is not None
        except LedgerUnavailable:
            return False

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        """Raises `ResultIsMissingError` if the job has not ended, and `JobNotFound`."""
        result = await self._result(task_id)
        if result is None:
            raise ResultIsMissingError
        return result

    async def set_progress(self, task_id: str, progress: TaskProgress[Any]) -> None:
        """Store taskiq's own progress, in Redis only. No task fails because Redis is away."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await super().set_progress(task_id, progress)
        except (RedisError, OSError) as error:
            log.debug("result.progress_not_stored", job_id=task_id, error=str(error)[:300])

    async def get_progress(self, task_id: str) -> TaskProgress[Any] | None:
        """The progress that taskiq's `ProgressTracker` stored, otherwise that of the ledger."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                progress = await super().get_progress(task_id)
        except (RedisError, OSError, ValueError):
            progress = None
        if progress is not None:
            return progress
        return taskiq_progress_of(await self._job(task_id))

    async def _result(self, job_id: str) -> TaskiqResult[Any] | None:
        """
        The result of a job. None: the job has not ended.

        A failed job may have been requeued since its result went to Redis. Therefore a failure is
        read from the ledger.
        """
        stored = await self._stored(job_id)
        if stored is not None and not stored.is_err:
            return stored
        try:
            job = await self._job(job_id)
        except (JobNotFound, LedgerUnavailable):
            if stored is None:
                raise
            return stored
        return taskiq_result_of(job) if job.status.is_terminal else None

    async def _stored(self, job_id: str) -> TaskiqResult[Any] | None:
        value = await self._notifier.load_result(job_id)
        if value is None:
            return None
        try:
            return decode_result(job_id, value)
        except ValueError as error:
            log.warning("result.unreadable", job_id=job_id, error=str(error)[:300])
            return None

    async def _job(self, job_id: str) -> Job:
        job = await self._ledger.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job


def taskiq_result_of(job: Job) -> TaskiqResult[Any]:
    """Taskiq's result of a job that has ended. Raises `ValueError` for any other."""
    error: ApiWorkersError | None = None
    if job.status is Status.FAILED:
        reason = job.error.reason if job.error else Reason.ERROR
        error = JobFailed(job.id, str(reason), job.error.message if job.error else "")
    elif job.status is Status.CANCELLED:
        error = JobCancelled(job.id)
    elif job.status is not Status.COMPLETED:
        raise ValueError(f"job {job.id} is {job.status}: it has no result yet")
    run_s = 0.0
    if job.started_at is not None and job.ended_at is not None:
        run_s = max(0.0, (job.ended_at - job.started_at).total_seconds())
    return TaskiqResult(
        is_err=error is not None,
        return_value=job.result if error is None else None,
        execution_time=run_s,
        labels=dict(job.labels),
        error=error,
    )


def taskiq_progress_of(job: Job) -> TaskProgress[Any] | None:
    """Taskiq's progress of a job. None: the job has not reported any."""
    if job.progress is None:
        return None
    state = PROGRESS_STATES.get(job.status, str(job.status))
    return TaskProgress(state=state, meta=asdict(job.progress))


def encode_result(result: TaskiqResult[Any]) -> bytes:
    """
    The value of `StoredResult`, which is what taskiq-redis with its JSON serializer would write.

    An error of this package is written with the arguments of its constructor, so that any taskiq
    client can rebuild it. `model_dump` would write `args`, which holds only the message.
    """
    fields = {
        "is_err": result.is_err,
        "log": None,
        "return_value": result.return_value,
        "execution_time": result.execution_time,
        "labels": result.labels,
        "error": None if result.error is None else _error_as_data(result.error),
    }
    return JSONSerializer().dumpb(fields)


def decode_result(job_id: str, value: bytes) -> TaskiqResult[Any]:
    """
    The result that `encode_result` wrote. Raises `ValueError` for any other value.

    Taskiq's reader would import and call any exception class that the value names (SystemExit
    too). This one knows `JobCancelled`, and takes any other error for a `JobFailed`.
    """
    try:
        fields = json.loads(value)
        error = _error_from_data(job_id, fields["error"])
        if fields["is_err"] is not (error is not None):
            raise ValueError("not a stored result: is_err and error contradict each other")
        return TaskiqResult(
            is_err=error is not None,
            return_value=fields["return_value"],
            execution_time=float(fields["execution_time"]),
            labels=dict(fields.get("labels") or {}),
            error=error,
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a stored result: {error!r}") from error


def _error_as_data(error: BaseException) -> dict[str, Any]:
    """The error in the form of taskiq's `ExceptionRepr`."""
    if isinstance(error, JobFailed):
        arguments = [error.job_id, error.reason, error.message]
    elif isinstance(error, JobCancelled):
        arguments = [error.job_id]
    else:
        arguments = [str(error)]
    return {
        "exc_type": type(error).__qualname__,
        "exc_message": arguments,
        "exc_module": type(error).__module__,
        "exc_cause": None,
        "exc_context": None,
        "exc_suppress_context": True,
    }


def _error_from_data(job_id: str, data: dict[str, Any] | None) -> ApiWorkersError | None:
    if data is None:
        return None
    arguments = data["exc_message"]
    if data["exc_type"] == JobCancelled.__name__:
        return JobCancelled(job_id)
    if data["exc_type"] == JobFailed.__name__ and len(arguments) == 3:
        return JobFailed(job_id, str(arguments[1]), str(arguments[2]))
    return JobFailed(job_id, str(Reason.ERROR), f"{data['exc_type']}: {arguments}")
