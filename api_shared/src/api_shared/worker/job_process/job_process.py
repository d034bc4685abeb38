"""The worker's side of the process of a job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Protocol

from api_shared.worker.job_process.errors import ProtocolBroken
from api_shared.worker.job_process.exit import (
    Killed,
    Outcome,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
)
from api_shared.worker.job_process.framing import (
    PROGRESS_LIMIT_BYTES,
    REPORT_LIMIT_BYTES,
    FrameParser,
    Kind,
    header,
)

log = logging.getLogger(__name__)

_CHUNK_BYTES = 256 * 1024
_END_PATIENCE_S = 5.0

OnProgress = Callable[[dict[str, Any]], None]


class Signaller(Protocol):
    """The fork server, as far as the process of a job needs it."""

    def kill(self, job: JobProcess) -> None: ...
    def request_stop(self, job: JobProcess) -> None: ...


class JobProcess:
    """
    The process of one job. It opens both pipes at once; `their_ends` go to the fork server.

    `over` is set by the first of an answer, a limit and the end of the process. `ended` is set when
    the process is reaped; after that no answer can come.
    """

    def __init__(self, number: int, server: Signaller, *, max_result_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.pid: int | None = None
        self.started: asyncio.Future[bool] = loop.create_future()
        self.over: asyncio.Future[Outcome] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._server = server
        self._max_result_bytes = max_result_bytes
        self._channel, self._their_channel = socket.socketpair()
        self._their_lifeline, self._lifeline = os.pipe()
        self._channel.setblocking(False)
        self._on_progress: OnProgress | None = None
        self._soft_limit_s = 0.0
        self._memory_limit_mb = 0
        self._parser = FrameParser(
            {
                Kind.PROGRESS: PROGRESS_LIMIT_BYTES,
                Kind.RETURNED: max_result_bytes,
                Kind.RAISED: REPORT_LIMIT_BYTES,
                Kind.SOFT_LIMIT: REPORT_LIMIT_BYTES,
                Kind.OUT_OF_MEMORY: REPORT_LIMIT_BYTES,
            }
        )

    @property
    def their_ends(self) -> list[int]:
        return [self._their_channel.fileno(), self._their_lifeline]

    def close_their_ends(self) -> None:
        if self._their_lifeline >= 0:
            self._their_channel.close()
            os.close(self._their_lifeline)
            self._their_lifeline = -1

    async def follow(
        self,
        function: str,
        arguments: bytes,
        *,
        soft_limit_s: float | None,
        hard_limit_s: float | None,
        memory_limit_mb: int | None,
        on_progress: OnProgress | None,
        task: str | None,
    ) -> Outcome:
        """Sends the order to the started process and waits until it is over."""
        self._on_progress = on_progress
        self._soft_limit_s = soft_limit_s or 0.0
        self._memory_limit_mb = memory_limit_mb or 0
        order = {
            "function": function,
            "task": task,
            "memory_limit_mb": memory_limit_mb,
            "max_result_bytes": self._max_result_bytes,
            "progress": on_progress is not None,
        }
        timers = []
        if soft_limit_s is not None:
            timers.append(
                self._loop.call_later(soft_limit_s, lambda: self._server.request_stop(self))
            )
        if hard_limit_s is not None:
            timed_out = TimedOut(hard_limit_s, soft=False)
            timers.append(self._loop.call_later(hard_limit_s, self.decide, timed_out))
        self._loop.add_reader(self._channel, self._read)
        sending = self._loop.create_task(self._send(json.dumps(order).encode(), arguments))
        try:
            return await self.over
        finally:
            for timer in timers:
                timer.cancel()
            sending.cancel()
            await asyncio.wait({sending})  # it must end before the socket is closed

    def decide(self, outcome: Outcome) -> None:
        """Set the outcome; the first one counts."""
        if not self.over.done():
            self.over.set_result(outcome)

    async def end(self) -> None:
        """Close our ends, kill the process group, and wait until the process is reaped."""
        self.close()
        if not self.ended.done():
            self._server.kill(self)
            await asyncio.wait({self.ended}, timeout=_END_PATIENCE_S)

    def close(self) -> None:
        """Close our ends. That kills the group too, even if the fork server is stuck."""
        self.close_their_ends()
        if self._lifeline >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()
            os.close(self._lifeline)
            self._lifeline = -1

    def on_started(self, pid: int) -> None:
        self.pid = pid
        if not self.started.done():
            self.started.set_result(True)

    def on_ended(self, status: int | None, problem: str = "") -> None:
        """`status` is that of waitpid(2). None, with a `problem`: it is not known."""
        self._read_rest()
        self.decide(Killed(reason=problem) if status is None else _killed(status))
        if not self.started.done():
            self.started.set_result(True)
        if not self.ended.done():
            self.ended.set_result(None)

    def on_server_gone(self) -> None:
        """The kernel kills the process with its parent; its group is killed here."""
        if not self.started.done():
            self.started.set_result(False)
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._read_rest()
        self.decide(Killed(reason="the fork server died, and the job's process with it"))
        if not self.ended.done():
            self.ended.set_result(None)

    async def _send(self, order: bytes, arguments: bytes) -> None:
        try:
            for kind, payload in ((Kind.ORDER, order), (Kind.ARGUMENTS, arguments)):
                await self._loop.sock_sendall(self._channel, header(kind, len(payload)))
                await self._loop.sock_sendall(self._channel, payload)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it ended before it read all; `on_ended` reports how

    def _read(self) -> bool:
        """Read one chunk. False: there is nothing more at present."""
        try:
            data = self._channel.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it closed before it read all
            data = b""
        if not data:
            self._loop.remove_reader(self._channel)
            return False
        try:
            for kind, payload in self._parser.feed(data):
                self._take(kind, payload)
        except ProtocolBroken as error:
            self._loop.remove_reader(self._channel)
            self.decide(Killed(reason=f"stopped: its process broke the protocol: {error}"))
            return False
        return True

    def _read_rest(self) -> None:
        """Read the rest: all that a reaped process has written is in the socket's buffer."""
        if self._lifeline >= 0:
            while not self.over.done() and self._read():
                pass

    def _take(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.PROGRESS:
            self._report_progress(payload)
        elif kind is Kind.RETURNED:
            self.decide(Returned(payload))
        elif kind is Kind.SOFT_LIMIT:
            self.decide(TimedOut(self._soft_limit_s, soft=True, traceback_text=_text(payload)))
        elif kind is Kind.OUT_OF_MEMORY:
            self.decide(OutOfMemory(self._memory_limit_mb, _text(payload)))
        else:
            self.decide(_raised(payload))

    def _report_progress(self, payload: bytes) -> None:
        update = _parse(payload)
        if not isinstance(update, dict):
            raise ProtocolBroken("progress is not an object")
        if self._on_progress is None or self.over.done():
            return
        try:
            self._on_progress(update)
        except Exception:
            log.exception("compute.on_progress_raised")


def _killed(status: int) -> Killed:
    code = os.waitstatus_to_exitcode(status)
    return Killed(signal=-code) if code < 0 else Killed(exit_code=code)


def _raised(payload: bytes) -> Raised:
    data = _parse(payload)
    try:
        return Raised(
            error_type=str(data["error_type"]),
            message=str(data["message"]),
            traceback_text=str(data["traceback"]),
            mro=tuple(str(name) for name in data["mro"]),
            args=tuple(data["args"]),
            fields=dict(data["fields"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolBroken(f"not the description of an exception: {error!r}") from error


def _text(payload: bytes) -> str:
    return str(_parse(payload))


def _parse(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolBroken(f"not JSON: {error}") from error
