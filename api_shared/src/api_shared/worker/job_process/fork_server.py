"""The worker's side of the fork server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from api_shared.worker.job_process.errors import (
    ForkRefused,
    ProtocolBroken,
    ServerGone,
    ServerNotStarted,
    ServerSlow,
)
from api_shared.worker.job_process.framing import CONTROL_LIMIT_BYTES, FrameParser, Kind, frame
from api_shared.worker.job_process.job_process import JobProcess

log = logging.getLogger(__name__)

# A job has one CPU slot: more BLAS threads would compete with other jobs for their cores.
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
_STDERR = 2
_FORK_PATIENCE_S = 30.0
_EXIT_PATIENCE_S = 5.0


class ForkServer:
    """Made by `start`. Once `gone`, it cannot be used any more: start another."""

    def __init__(self) -> None:
        self.gone = False
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, JobProcess] = {}
        self._parser = FrameParser(
            dict.fromkeys((Kind.READY, Kind.FAILED, Kind.STARTED, Kind.ENDED), CONTROL_LIMIT_BYTES)
        )
        self._reaping: asyncio.Task[None] | None = None
        self._control, theirs = socket.socketpair()
        their_lifeline, self._lifeline = os.pipe()
        self._control.setblocking(False)
        try:
            self._process = subprocess.Popen(
                _command(theirs.fileno(), their_lifeline),
                stdin=subprocess.DEVNULL,
                stdout=_STDERR,  # a print is a line of the worker's log
                pass_fds=(theirs.fileno(), their_lifeline),
                env=os.environ | ONE_THREAD,
                start_new_session=True,  # Ctrl-C is for the worker: it decides what to stop
            )
        except BaseException:
            self._control.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(their_lifeline)
        self._loop.add_reader(self._control, self._read)

    @classmethod
    async def start(cls, preload: Sequence[str], *, timeout_s: float) -> ForkServer:
        """Start a server and return it when `preload` is imported. Raises ServerNotStarted."""
        try:
            server = cls()
        except OSError as error:
            raise ServerNotStarted(f"{sys.executable}: {error}") from error
        try:
            hello = {"preload": list(preload), "sys_path": sys.path}
            server._send(frame(Kind.HELLO, json.dumps(hello).encode()))
            async with asyncio.timeout(timeout_s):
                await server._ready
        except TimeoutError:
            await server.close()
            raise ServerSlow(
                f"importing {', '.join(preload)} took longer than {timeout_s:g} s"
            ) from None
        except ServerGone:
            await server.close()
            raise ServerNotStarted(
                f"it exited with code {server._process.returncode}; its output shows why"
            ) from None
        except BaseException:
            await server.close()
            raise
        log.info("compute.server_started pid=%s", server.pid)
        return server

    @property
    def pid(self) -> int:
        return self._process.pid

    async def fork(self, *, max_result_bytes: int) -> JobProcess:
        """
        Fork a process that waits for its order.

        Raises ServerGone if the server died first, ForkRefused if the machine has no room; then
        nothing has run. The caller must `end` the job.
        """
        if self.gone:
            raise ServerGone
        try:
            job = JobProcess(next(self._numbers), self, max_result_bytes=max_result_bytes)
        except OSError as error:
            raise ForkRefused(str(error)) from error
        self._jobs[job.number] = job
        try:
            message = frame(Kind.FORK, json.dumps({"job": job.number}).encode())
            self._send(message, job.their_ends)
            job.close_their_ends()
            await asyncio.wait({job.started}, timeout=_FORK_PATIENCE_S)
            if not job.started.done():
                self._lose()  # it is stopped or stuck
            if not job.started.result():
                raise ServerGone
            if job.pid is None:
                raise ForkRefused(str(job.over.result()))
        except BaseException:
            await job.end()
            raise
        return job

    def kill(self, job: JobProcess) -> None:
        self._signal(Kind.KILL, job)

    def request_stop(self, job: JobProcess) -> None:
        self._signal(Kind.STOP, job)

    async def close(self) -> None:
        """End the server and every job that it still runs."""
        self._lose()
        if self._reaping is not None:
            await asyncio.shield(self._reaping)

    def _signal(self, kind: Kind, job: JobProcess) -> None:
        if job.number in self._jobs:
            with contextlib.suppress(ServerGone):
                self._send(frame(kind, json.dumps({"job": job.number}).encode()))

    def _send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message. A server that does not read it is given up."""
        if self.gone:
            raise ServerGone
        try:
            sent = socket.send_fds(self._control, [data], list(descriptors))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            sent = 0
        if sent < len(data):
            self._lose()
            raise ServerGone

    def _read(self) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            log.warning("compute.server_died pid=%s jobs=%s", self.pid, len(self._jobs))
            self._lose()
            return
        try:
            for kind, payload in self._parser.feed(data):
                self._take(kind, json.loads(payload))
        except (ProtocolBroken, ValueError, KeyError) as error:
            log.warning("compute.server_broke_protocol pid=%s error=%r", self.pid, error)
            self._lose()

    def _take(self, kind: Kind, message: dict[str, object]) -> None:
        if kind is Kind.READY:
            if not self._ready.done():
                self._ready.set_result(None)
        elif kind is Kind.FAILED:
            log.error("compute.preload_failed module=%s\n%s", message["module"], message["text"])
            if not self._ready.done():
                self._ready.set_exception(
                    ServerNotStarted(
                        f"import {message['module']}: {message['error']}",
                        module=str(message["module"]),
                    )
                )
        elif kind is Kind.STARTED:
            self._jobs[int(str(message["job"]))].on_started(int(str(message["pid"])))
        else:
            job = self._jobs.pop(int(str(message["job"])))
            status = message.get("status")
            job.on_ended(
                status if isinstance(status, int) else None, str(message.get("problem", ""))
            )

    def _lose(self) -> None:
        """Close our ends, so that the server kills what it forked and exits."""
        if self.gone:
            return
        self.gone = True
        self._loop.remove_reader(self._control)
        self._control.close()
        self._reaping = self._loop.create_task(self._reap())
        if not self._ready.done():
            self._ready.set_exception(ServerGone())
            self._ready.exception()  # possibly nothing waits for it any more
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.on_server_gone()

    async def _reap(self) -> None:
        """Wait by polling: a wait in a thread would outlive a loop that is closed meanwhile."""
        deadline = self._loop.time() + _EXIT_PATIENCE_S
        os.close(self._lifeline)
        while self._process.poll() is None:
            if self._loop.time() > deadline:
                self._process.kill()
            await asyncio.sleep(0.005)


def _command(control_fd: int, lifeline_fd: int) -> list[str]:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    module = f"{__package__}.fork_server_main"
    return [sys.executable, *flags, "-m", module, str(control_fd), str(lifeline_fd)]
