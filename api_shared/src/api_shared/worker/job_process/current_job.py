"""The job of this process, for its function: progress, and the request to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pydantic_core

from api_shared.worker.job_process.framing import PROGRESS_LIMIT_BYTES

_PROGRESS_EVERY_S = 0.1


class SoftLimitReached(BaseException):
    """
    Raised in the function at its soft limit: save what is worth saving and return or re-raise.

    Not an Exception, so that `except Exception` of a library does not swallow it. Python code
    sees it at once; a C call sees it when it returns.
    """


class CurrentJob:
    """
    The job of this process. Outside of a job's process (a unit test that calls the function)
    progress has no effect.
    """

    def __init__(self, send_progress: Callable[[bytes], None] | None = None) -> None:
        self.stop_requested = False
        """True from the soft limit on."""
        self.raise_at_soft_limit = True
        """Set it to False to look at `stop_requested` instead."""
        self._interruptible = False
        self._send_progress = send_progress
        self._latest: dict[str, Any] | None = None
        self._done = threading.Event()
        self._sender: threading.Thread | None = None

    def progress(
        self,
        done: float,
        total: float | None = None,
        message: str | None = None,
        **extra: Any,
    ) -> None:
        """
        Report progress. Calls are cheap: at most ten a second are sent, the last one always.

        A C call that does not release the interpreter delays progress that was not sent before it.
        """
        if self._send_progress is not None:
            self._latest = {"done": done, "total": total, "message": message, **extra}

    # Called by `child` only, from here on.

    def open(self) -> None:
        """Starts the thread that sends progress while the function computes."""
        if self._send_progress is not None:
            self._sender = threading.Thread(target=self._send_regularly, daemon=True)
            self._sender.start()

    def run(self, function: Callable[[], Any]) -> Any:
        """Calls `function`; only inside it can SoftLimitReached be raised."""
        try:
            self._interruptible = True
            if self.stop_requested:
                raise SoftLimitReached
            return function()
        finally:
            self._interruptible = False

    def request_stop(self) -> None:
        """The soft limit's signal handler."""
        self.stop_requested = True
        if self._interruptible and self.raise_at_soft_limit:
            raise SoftLimitReached

    def close(self) -> None:
        """Returns once the last progress is sent."""
        if self._sender is not None:
            self._done.set()
            self._sender.join()
            self._sender = None
            self._send_latest()

    def _send_regularly(self) -> None:
        while not self._done.wait(_PROGRESS_EVERY_S):
            self._send_latest()

    def _send_latest(self) -> None:
        latest, self._latest = self._latest, None
        if latest is not None and self._send_progress is not None:
            self._send_progress(encode_progress(latest))


def encode_progress(update: dict[str, Any]) -> bytes:
    """
    The JSON of an update. It never fails: NaN is null, unknown types are text, long extras go.
    """
    try:
        data = pydantic_core.to_json(update, inf_nan_mode="null", fallback=str)
        if len(data) <= PROGRESS_LIMIT_BYTES:
            return data
    except Exception:  # noqa: S110 - a __str__ that raises, text that is not UTF-8
        pass
    bare = {"done": update["done"], "total": update["total"], "message": None}
    return pydantic_core.to_json(bare, inf_nan_mode="null", fallback=lambda _: None)


_current = CurrentJob()


def current_job() -> CurrentJob:
    return _current


def become(job: CurrentJob) -> None:
    """Makes `job` the job of this process."""
    global _current  # noqa: PLW0603 - one process, one job
    _current = job
