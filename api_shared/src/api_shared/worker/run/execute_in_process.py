"""The execution of a synchronous task in a process of its own."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import BaseModel

from api_shared.client.bind.task import JobTask
from api_shared.errors import ApiWorkersError, Discard, Snooze, TimeLimitExceeded
from api_shared.errors import SoftTimeLimitExceeded as SoftLimit
from api_shared.worker.job_process import (
    ComputeClosed,
    ForkRefused,
    ProcessExecutor,
    ServerNotStarted,
    Slot,
)
from api_shared.worker.job_process.errors import NotComputable
from api_shared.worker.job_process.exit import (
    Cancelled,
    Killed,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
)
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.job_context import progress_of

log = structlog.get_logger()

NO_PROCESS_S = 5.0
"""After how long a job is tried again if the machine had no process for it."""


class ProcessFailed(ApiWorkersError):
    """The job's process ended without a result: killed, or out of memory."""


class RemoteError(ApiWorkersError):
    """The exception of the function in its process, as text; `type_name` is its own type's."""

    def __init__(self, ended: Raised) -> None:
        self.type_name = ended.error_type
        self.remote_traceback = ended.traceback_text
        self._ended = ended
        super().__init__(ended.message)

    def is_a(self, *types: type[BaseException]) -> bool:
        """Whether `except types` would have caught it where it was raised."""
        return self._ended.is_a(*types)


async def execute_in_process(
    task: JobTask[Any, Any],
    args: BaseModel,
    injected: Mapping[str, Any],
    claim: HeldClaim,
    soft_limit_s: float,
    hard_limit_s: float,
    executor: ProcessExecutor,
    slot: Slot | None,
) -> str:
    """The function's result as JSON text. Raises what an async function would raise."""

    def on_progress(update: Mapping[str, Any]) -> None:
        fields = (update.get(name) for name in ("done", "total", "stage", "message"))
        claim.report(progress_of(*fields))

    for name, value in injected.items():
        _check_that_it_travels(name, value)
    arguments = {**task.bound.arguments(args), **injected}
    try:
        ended = await executor.run(
            task.function,
            kwargs=arguments,
            task=task.task_name,
            soft_limit_s=soft_limit_s,
            hard_limit_s=hard_limit_s,
            memory_limit_mb=task.contract.memory_limit_mb,
            on_progress=on_progress,
            slot=slot,
        )
    except ComputeClosed:
        raise _worker_stopped() from None
    except (ServerNotStarted, ForkRefused) as error:
        if isinstance(error, ServerNotStarted) and error.module is not None:
            raise  # the module must be fixed, so the job shows its error
        log.warning(
            "compute.no_process", error=str(error)
        )  # nothing has run: the job is not at fault
        raise Snooze(NO_PROCESS_S, str(error)) from None
    match ended:
        case Returned(value_json):
            return value_json.decode()
        case Raised():
            raise _as_local(ended, task)
        case TimedOut(limit_s, soft):
            raise SoftLimit(limit_s) if soft else TimeLimitExceeded(limit_s)
        case OutOfMemory(limit_mb):
            raise ProcessFailed(f"it needed more than its {limit_mb} MB of memory")
        case Killed():
            raise ProcessFailed(f"its process was {ended}")
        case Cancelled():
            raise _worker_stopped()


def _check_that_it_travels(name: str, dependency: Any) -> None:
    try:
        pickle.dumps(dependency)
    except Exception as error:
        raise NotComputable(
            f"the dependency {name!r} cannot be sent to the process of a `def` task: {error}",
            "make the task `async def`, or open it inside the function",
        ) from error


def _worker_stopped() -> Snooze:
    """The job goes on elsewhere, no attempt counted."""
    return Snooze(0, "worker stopped")


def _as_local(ended: Raised, task: JobTask[Any, Any]) -> BaseException:
    """The exception of the process: the platform's own as themselves, all others as text."""
    if ended.is_a(Discard):
        return Discard(ended.message)
    if ended.is_a(Snooze):
        delay_s, why = ended.fields.get("delay_s", 0), ended.fields.get("why", "snoozed")
        return Snooze(float(delay_s), str(why))
    return RemoteError(ended)
