"""The executor of CPU-bound and blocking functions, each in a process that can be killed."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from api_shared.cancellation import cancel_and_wait
from api_shared.worker.job_process.cpu_slots import Slot, SlotFolder
from api_shared.worker.job_process.errors import (
    ComputeClosed,
    NotComputable,
    ServerGone,
    ServerNotStarted,
)
from api_shared.worker.job_process.exit import Cancelled, Outcome
from api_shared.worker.job_process.fork_server import ForkServer
from api_shared.worker.job_process.function_ref import reference_to
from api_shared.worker.job_process.job_process import JobProcess, OnProgress

log = logging.getLogger(__name__)

_FORK_TRIES = 3


class ProcessExecutor:
    """
    Runs functions in processes forked from a server that has `preload` imported.

    `preload` names modules: the heavy ones, and those that define the functions. With `slots`, a
    `run` without a slot of its own waits for one.
    """

    def __init__(
        self,
        *,
        slots: SlotFolder | None = None,
        preload: Sequence[str] = (),
        max_result_bytes: int = 8 * 1024 * 1024,
        max_arguments_bytes: int = 256 * 1024 * 1024,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.slots = slots
        self._preload = tuple(preload)
        self._max_result_bytes = max_result_bytes
        self._max_arguments_bytes = max_arguments_bytes
        self._start_timeout_s = start_timeout_s
        self._server: ForkServer | None = None
        self._starting: asyncio.Task[ForkServer] | None = None
        self._jobs: set[JobProcess] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """Jobs that have a process."""
        return len(self._jobs)

    @property
    def server_pid(self) -> int | None:
        """The fork server's process id; None while there is none."""
        return None if self._server is None or self._server.gone else self._server.pid

    async def start(self) -> None:
        """Start the fork server now, not with the first job. Raises ServerNotStarted."""
        await self._live_server()

    async def close(self) -> None:
        """Stop the running jobs (`Cancelled`), then the fork server."""
        self._closed = True
        for job in self._jobs:
            job.decide(Cancelled())
        if waiting := [job.ended for job in self._jobs]:
            await asyncio.wait(waiting, timeout=5.0)
        if self._starting is not None:
            await cancel_and_wait(self._starting)
        if self._server is not None:
            await self._server.close()

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
        """
        Call `function` in a process of its own and return how it ended. Limits count from the fork.

        A `slot` that is passed stays the caller's to release; one that `run` waited for is
        released when the process is reaped. Cancelling kills the process, then raises
        CancelledError. `memory_limit_mb` caps the address space, preloaded modules included:
        with scikit-learn at least 1,536. The contract of `task`, to which the function is bound,
        encodes the result; None: pydantic does, as it is.

        Raises NotComputable, ServerNotStarted, ForkRefused, ComputeClosed if nothing has run.
        """
        if self._closed:
            raise ComputeClosed
        reference = reference_to(function)
        arguments = self._pickle(args, kwargs or {})
        own_slot = await self.slots.acquire() if slot is None and self.slots is not None else None
        try:
            job = await self._fork()
        except BaseException:
            if own_slot is not None:
                own_slot.release()
            raise
        self._jobs.add(job)
        job.ended.add_done_callback(lambda _: self._forget(job, own_slot))
        try:
            return await job.follow(
                reference,
                arguments,
                soft_limit_s=soft_limit_s,
                hard_limit_s=hard_limit_s,
                memory_limit_mb=memory_limit_mb,
                on_progress=on_progress,
                task=task,
            )
        finally:
            await job.end()

    def _forget(self, job: JobProcess, own_slot: Slot | None) -> None:
        self._jobs.discard(job)
        if own_slot is not None:
            own_slot.release()

    def _pickle(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        try:
            data = pickle.dumps((tuple(args), dict(kwargs)), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise NotComputable(
                f"the arguments cannot be sent to another process: {error}",
                "pass plain values, dataclasses or pydantic models",
            ) from error
        if len(data) > self._max_arguments_bytes:
            raise NotComputable(
                f"the arguments are {len(data):,} bytes, the limit is "
                f"{self._max_arguments_bytes:,}",
                "write them to storage and pass the path",
            )
        return data

    async def _fork(self) -> JobProcess:
        """
        Fork, and try again if the server dies before the job's process exists: nothing has run yet.
        """
        for _ in range(_FORK_TRIES):
            server = await self._live_server()
            try:
                return await server.fork(max_result_bytes=self._max_result_bytes)
            except ServerGone:
                log.warning("compute.fork_retried pid=%s", server.pid)
        raise ServerNotStarted(f"it died {_FORK_TRIES} times before the job's process started")

    async def _live_server(self) -> ForkServer:
        if self._closed:
            raise ComputeClosed
        if self._server is not None and not self._server.gone:
            return self._server
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_server())
            self._starting.add_done_callback(self._started)
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():  # by `close`; it is not our task that was cancelled
                raise ComputeClosed from None
            raise

    async def _start_server(self) -> ForkServer:
        if self._server is not None:
            await self._server.close()
        return await ForkServer.start(self._preload, timeout_s=self._start_timeout_s)

    def _started(self, starting: asyncio.Task[ForkServer]) -> None:
        self._starting = None
        if not starting.cancelled() and starting.exception() is None:
            self._server = starting.result()
