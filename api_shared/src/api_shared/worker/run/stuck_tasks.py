"""Bodies that went on after they were cancelled: they hold no slot, but are tracked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

log = structlog.get_logger()

AGAIN_S = 1.0
"""How often such a body is cancelled again."""


class StuckTasks:
    """
    Cancels each of them again every second, until it ends.

    A job must not run beside its own stuck body. If the job comes back to this process, `make_way`
    ends the process by `retire`, as SIGTERM would, so that its other jobs can finish.
    """

    def __init__(self, retire: Callable[[], None]) -> None:
        self._retire = retire
        self._bodies: dict[str, asyncio.Task[str]] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._bodies

    def add(self, job_id: str, body: asyncio.Task[str]) -> None:
        self._bodies[job_id] = body
        loop = asyncio.get_running_loop()

        def cancel_again() -> None:
            if not body.done():
                body.cancel()
                loop.call_later(AGAIN_S, cancel_again)

        def forget(_: asyncio.Task[str]) -> None:
            if self._bodies.get(job_id) is body:
                del self._bodies[job_id]
            error = None if body.cancelled() else body.exception()
            log.info("task.stopped_late", job_id=job_id, error=str(error) if error else None)

        loop.call_later(AGAIN_S, cancel_again)
        body.add_done_callback(forget)

    def make_way(self, job_id: str) -> None:
        log.error("worker.retires", job_id=job_id, why="an earlier run of this job will not stop")
        self._retire()
