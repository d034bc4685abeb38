"""An executor of synchronous tasks in a thread, without processes of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from api_shared.worker.job_process import CurrentJob, ProcessExecutor, Slot
from api_shared.worker.job_process.child import describe, result_of
from api_shared.worker.job_process.current_job import become, current_job
from api_shared.worker.job_process.exit import Outcome, Raised, Returned
from api_shared.worker.job_process.job_process import OnProgress


class ThreadExecutor(ProcessExecutor):
    """
    Synchronous functions one after the other in a thread, without limits on time or memory.

        executor = ThreadExecutor(max_result_bytes=1_000_000)
        outcome = await executor.run(sorted, [[3, 1, 2]])
        assert outcome == Returned(b"[1,2,3]")
    """

    def __init__(self, *, max_result_bytes: int) -> None:
        super().__init__(max_result_bytes=max_result_bytes)
        self._limit_bytes = max_result_bytes
        self._one_at_a_time = asyncio.Lock()

    async def run(
        self,
        function: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        soft_limit_s: float | None = None,
        hard_limit_s: float | None = None,
        memory_limit_mb: int | None = None,
        on_progress: OnProgress | None = None,
        slot: Slot | None = None,
        task: str | None = None,
    ) -> Outcome:
        loop = asyncio.get_running_loop()

        def report(update: bytes) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, json.loads(update))

        def call() -> Outcome:
            before, here = current_job(), CurrentJob(report)
            become(here)
            here.open()
            try:
                value = function(*args, **(kwargs or {}))
                return Returned(result_of(function, task, value, limit_bytes=self._limit_bytes))
            except BaseException as error:
                return _raised(error)
            finally:
                here.close()
                become(before)

        async with self._one_at_a_time:
            return await asyncio.to_thread(call)


def _raised(error: BaseException) -> Raised:
    """The outcome as from the process of a job: an exception travels as text."""
    data = json.loads(describe(error))
    return Raised(
        error_type=data["error_type"],
        message=data["message"],
        traceback_text=data["traceback"],
        mro=tuple(data["mro"]),
        args=tuple(data["args"]),
        fields=data["fields"],
    )
