"""The execution of a task's function, with its dependencies and under its limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from inspect import isawaitable
from time import monotonic
from typing import Any, Literal

import structlog
from taskiq.exceptions import NoResultError, TaskRejectedError
from taskiq.message import TaskiqMessage

from api_shared.client.bind.task import JobTask
from api_shared.errors import (
    Discard,
    Snooze,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TooLarge,
)
from api_shared.settings import Settings
from api_shared.worker.job_process import ProcessExecutor, Slot
from api_shared.worker.run.dependencies import Injected
from api_shared.worker.run.execute_in_process import execute_in_process
from api_shared.worker.run.held_claim import HeldClaim, RunningTask, Stop, running_claim
from api_shared.worker.run.outcome import (
    Cancelled,
    Completed,
    Interrupted,
    LostClaim,
    Outcome,
    failure,
    snoozed,
)

log = structlog.get_logger()

STOP_GRACE_S = 5.0
"""
How long a body that must stop may take to clean up. After that its slot is free for another job;
if it blocks the event loop, its process ends.
"""
MIN_GRACE_S = 0.1
"""The shortest time to clean up, at the hard limit too."""
AROUND_PROCESS_S = 120.0
"""
The time of a synchronous task beyond the hard limit of its process: for its dependencies, and for
a fork server that starts slowly.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in seconds from the start of the body: of the contract, else of the settings."""

    soft_s: float
    hard_s: float

    @classmethod
    def of(cls, task: JobTask[Any, Any], settings: Settings) -> Limits:
        contract = task.contract
        hard_s = contract.hard_limit_s or max(settings.task_time_limit, contract.soft_limit_s or 0)
        soft_s = contract.soft_limit_s or min(settings.task_soft_time_limit, hard_s)
        return cls(soft_s, hard_s)

    def around_process(self) -> Limits:
        """The limits around a synchronous task, its process included."""
        soft_s = self.hard_s + AROUND_PROCESS_S
        return Limits(soft_s, soft_s + STOP_GRACE_S)


class WillNotStop(Exception):
    """The body went on after it was cancelled."""


class Escaped(Exception):
    """The body raised an exception that would have ended its asyncio task or the worker."""


async def execute(
    task: JobTask[Any, Any],
    claim: HeldClaim,
    message: TaskiqMessage,
    *,
    settings: Settings,
    executor: ProcessExecutor,
    slot: Slot | None,
) -> Outcome:
    """Run the function once and return its `Outcome`, whatever it does."""
    limits = Limits.of(task, settings)
    contract, limit_bytes = task.contract, settings.max_result_bytes

    async def call() -> str:
        running_claim.set(claim)
        args = contract.decode_args(claim.job.args_json)
        async with Injected(task, claim, message, settings) as injected:
            if task.bound.is_async:
                value = task.bound.function(**task.bound.arguments(args), **injected)
                text = contract.encode_result(await value if isawaitable(value) else value)
            else:
                text = await execute_in_process(
                    task, args, injected, claim, limits.soft_s, limits.hard_s, executor, slot
                )
        if len(text) > limit_bytes:
            name = f"the result of {contract.name}"
            raise TooLarge(name, len(text), limit_bytes, "MAX_RESULT_BYTES")
        return text

    watched = limits if task.bound.is_async else limits.around_process()
    text, error, stopped = await _watch(_contained(call()), claim, watched)
    return _outcome(task, text, error, stopped, limits)


async def _contained(body: Awaitable[str]) -> str:
    """
    Wrap two exceptions that asyncio would let out of the event loop, which would end the worker.
    """
    try:
        return await body
    except (SystemExit, KeyboardInterrupt) as error:
        raise Escaped(f"raised {error!r}") from error


async def _watch(
    call: Coroutine[Any, Any, str], claim: HeldClaim, limits: Limits
) -> tuple[str | None, BaseException | None, Stop | Literal["limit"] | None]:
    """
    Await `call` in a task of its own; cancel it when the claim is stopped or its time is up.

    From its soft limit to its hard limit a body can save what is worth saving. A stop in between
    shortens that time. A body that does not end is left in `claim.running`: it holds no slot, and
    its writes are refused.
    """
    body = asyncio.create_task(call)
    claim.running = running = RunningTask(body, limits.soft_s, limits.hard_s)
    stopped: Stop | Literal["limit"] | None = None
    ends_at = running.soft_limit_at
    while True:
        watched: set[asyncio.Future[Any]] = {body}
        if stopped in (None, "limit"):  # it may have come before the body began
            watched.add(claim.stopped)
        wait_s = max(0.0, ends_at - monotonic())
        try:
            await asyncio.wait(watched, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # nothing waits for this job any more
            body.cancel()
            raise
        if body.done():
            break
        reason = claim.stop_reason
        if reason is not None and stopped in (None, "limit"):
            stopped = reason
            ends_at = min(monotonic() + STOP_GRACE_S, running.hard_limit_at)
        elif stopped is None and monotonic() >= ends_at:
            stopped = "limit"
            ends_at = running.hard_limit_at
        elif monotonic() >= ends_at:
            log.error(
                "task.will_not_stop", why=stopped, run_s=round(monotonic() - running.started_at, 3)
            )
            return None, WillNotStop(), stopped
        else:  # the timer was a little early
            continue
        ends_at = max(ends_at, monotonic() + MIN_GRACE_S)
        body.cancel()
    claim.running = None
    try:
        return body.result(), None, stopped
    except asyncio.CancelledError as error:  # its traceback shows where the body was
        return None, error, stopped or claim.stop_reason
    except BaseException as error:
        return None, error, stopped


def _outcome(
    task: JobTask[Any, Any],
    text: str | None,
    error: BaseException | None,
    stopped: Stop | Literal["limit"] | None,
    limits: Limits,
) -> Outcome:
    if text is not None:
        return Completed(json.loads(text), text)
    assert error is not None  # noqa: S101 - no result, so there is an error
    if stopped is Stop.LOST:
        return LostClaim()
    if stopped is Stop.CANCEL:
        return Cancelled()
    if stopped is Stop.DRAIN:
        return Interrupted()
    if stopped == "limit" and not isinstance(error, (Snooze, Discard)):
        limit: Exception = SoftTimeLimitExceeded(limits.soft_s)
        if isinstance(error, WillNotStop) or not task.bound.is_async:
            limit = TimeLimitExceeded(limits.hard_s)
        limit.__traceback__ = error.__traceback__
        return failure(limit, task.contract)
    if isinstance(error, asyncio.CancelledError):
        error = Escaped("raised CancelledError without having been stopped")
    if isinstance(error, Snooze):
        return snoozed(error)
    if isinstance(error, NoResultError):
        return Completed(None, "null")
    if isinstance(error, TaskRejectedError):
        error = Discard("the task rejected its message")
    return failure(error, task.contract)
