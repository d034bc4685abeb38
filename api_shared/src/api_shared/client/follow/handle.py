"""The handle of a job: its status, result and events, and the methods that stop or move it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar, cast

from taskiq import AsyncTaskiqTask, TaskiqResult
from taskiq.exceptions import TaskiqResultTimeoutError

from api_shared.client.follow.stream import StreamPiece, stream
from api_shared.client.follow.watch import watch
from api_shared.client.options import KiqOptions
from api_shared.client.runtime import Runtime
from api_shared.errors import InvalidOption, JobCancelled, JobFailed, JobNotFound, ResultTimeout
from api_shared.job import Job, Status, parse_job_id
from api_shared.ledger.change import NowPlus
from api_shared.ledger.transitions import cancel_waiting, request_cancel, reschedule
from api_shared.notifier.events import JobEvent, status_event

R = TypeVar("R")


class CancelAnswer(StrEnum):
    """`requested`: the job runs, and its worker stops it. `too_late`: it had ended before."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    TOO_LATE = "too_late"


async def cancel_job(job_id: str, runtime: Runtime) -> CancelAnswer:
    """Stop a job wherever it is. Raises `JobNotFound`, `LedgerUnavailable`."""
    ledger, retention_s = runtime.ledger, runtime.settings.retention_s
    while True:
        cancelled = await ledger.change(cancel_waiting(job_id, retention_s=retention_s))
        if cancelled is not None:
            runtime.notifier.publish(status_event(cancelled))
            return CancelAnswer.CANCELLED
        if await ledger.change(request_cancel(job_id)) is not None:
            runtime.notifier.publish_cancel(job_id)
            return CancelAnswer.REQUESTED
        job = await read_job(job_id, runtime)
        if job.status.is_terminal:
            return CancelAnswer.TOO_LATE


class RescheduleAnswer(StrEnum):
    """`started`: the job is queued or runs already. `ended`: no time can be set any more."""

    MOVED = "moved"
    STARTED = "started"
    ENDED = "ended"


async def reschedule_job(
    job_id: str, runtime: Runtime, *, at: datetime | None = None, delay: timedelta | None = None
) -> RescheduleAnswer:
    """
    Set another time for a job that waits for its time (scheduled or retrying).

    Raises `JobNotFound`, `LedgerUnavailable`, and for a wrong time the errors of a kiq.
    """
    if at is None and delay is None:
        raise InvalidOption("at", at, "either `at` or `delay` must be given")
    due = KiqOptions(at=at, delay=delay).due(datetime.now(UTC)) or NowPlus(0)
    while True:
        moved = await runtime.ledger.change(reschedule(parse_job_id(job_id), due))
        if moved is not None:
            runtime.notifier.publish(status_event(moved))
            return RescheduleAnswer.MOVED
        job = await read_job(job_id, runtime)
        if job.status.is_terminal:
            return RescheduleAnswer.ENDED
        if not job.is_asleep:  # otherwise it began to wait just now
            return RescheduleAnswer.STARTED


async def read_job(job_id: str, runtime: Runtime) -> Job:
    """The record of a job. Raises `InvalidJobId`, `JobNotFound`, `LedgerUnavailable`."""
    job = await runtime.ledger.get(parse_job_id(job_id))
    if job is None:
        raise JobNotFound(job_id)
    return job


class JobHandle(AsyncTaskiqTask[R]):
    """
    The handle that a kiq returns: a taskiq task (`task_id`, `wait_result`, `is_ready`) of its job.

        handle = await GREET.kiq(GreetArgs(name="Ada"))
        assert await handle.result(timeout=60) == "Hello, Ada"
        assert await handle.status() == "completed"

        same = broker.handle(handle.task_id, GREET)  # in another process, by its id
        assert await same.result() == "Hello, Ada"

    Redis notifies those who wait. Without Redis they learn of the end a little later.
    `deduplicated` means that this is an earlier job, which holds the unique key, and
    `other_arguments` that the earlier job has other arguments.
    """

    deduplicated: bool = False
    other_arguments: bool = False

    def __init__(
        self,
        job_id: str,
        runtime: Runtime,
        result_backend: Any,
        decode: Callable[[str], R] | None = None,
    ) -> None:
        super().__init__(job_id, result_backend, None)
        self._runtime = runtime
        self._decode = decode

    async def status(self) -> Status:
        return (await self.job()).status

    async def job(self) -> Job:
        """The whole record. Raises `JobNotFound`, `LedgerUnavailable`."""
        return await read_job(self.task_id, self._runtime)

    async def result(self, timeout: float | None = None) -> R:
        """
        The validated result, as soon as the job has completed.

            handle = await GREET.kiq(GreetArgs(name="Ada"))
            assert await handle.result(timeout=60) == "Hello, Ada"

        Raises `JobFailed`, `JobCancelled`, and after `timeout` seconds `ResultTimeout`.
        """
        try:
            async with asyncio.timeout(timeout):
                job = await self._ended()
        except TimeoutError:
            raise ResultTimeout(self.task_id, timeout or 0, await self.status()) from None
        if job.status is Status.CANCELLED:
            raise JobCancelled(job.id)
        if job.status is not Status.COMPLETED:
            error = job.error
            raise JobFailed(job.id, error.reason if error else "", error.message if error else "")
        if self._decode is None or job.result_json is None:
            return cast(R, job.result)
        return self._decode(job.result_json)

    async def wait_result(
        self, check_interval: float = 0.2, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[R]:
        """As taskiq's, but without polling: `check_interval` is not used."""
        try:
            async with asyncio.timeout(timeout if timeout > 0 else None):
                await self._ended()
        except TimeoutError:
            raise TaskiqResultTimeoutError(timeout=timeout) from None
        return await self.get_result(with_logs=with_logs)

    async def usage(self) -> dict[str, int]:
        """The usage of all runs of the job so far, by name (for example `prompt_tokens`)."""
        return (await self.job()).usage

    def watch(self) -> AsyncIterator[JobEvent]:
        """
        Each change of status, once and in order, with progress in between, until the job ends.

            handle = await GREET.kiq(GreetArgs(name="Ada"))
            async for event in handle.watch():
                print(event.status, event.progress)
            assert event.status == "completed"
        """
        runtime = self._runtime
        return watch(self.task_id, ledger=runtime.ledger, notifier=runtime.notifier)

    def stream(self) -> AsyncIterator[StreamPiece]:
        """
        The text that the job writes, live, until it ends.

            handle = await tell_story.kiq()
            text = ""
            async for piece in handle.stream():
                text = piece.text if piece.restart else text + piece.text
            assert text == "Once upon a time"

        A listener that starts late, or again, gets the whole text, in order. A piece with
        `restart` replaces all that came before it.
        """
        runtime = self._runtime
        return stream(self.task_id, ledger=runtime.ledger, notifier=runtime.notifier)

    async def cancel(self) -> CancelAnswer:
        """
        Stop the job, wherever it is.

            handle = await GREET.kiq(GreetArgs(name="Ada"), delay=timedelta(hours=1))
            assert await handle.cancel() == "cancelled"

        Raises `JobNotFound`, `LedgerUnavailable`.
        """
        return await cancel_job(self.task_id, self._runtime)

    async def reschedule(
        self, *, at: datetime | None = None, delay: timedelta | None = None
    ) -> RescheduleAnswer:
        """
        Set another time for a job that waits for its time; `at` and `delay` are those of a kiq.

            handle = await GREET.kiq(GreetArgs(name="Ada"), delay=timedelta(hours=1))
            assert await handle.reschedule(delay=timedelta(minutes=10)) == "moved"
        """
        return await reschedule_job(self.task_id, self._runtime, at=at, delay=delay)

    async def _ended(self) -> Job:
        """The record of the job when it has ended. If it is requeued just then, it ends later."""
        while True:
            async for _ in self.watch():
                pass
            job = await self.job()
            if job.status.is_terminal:
                return job
