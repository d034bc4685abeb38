"""A worker's process: signals and its parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

import structlog

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1


def follow_parent() -> None:
    """Get SIGTERM when taskiq's main process dies, kill -9 included: no orphan consumes on."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        log.warning("process.no_parent_death_signal", errno=ctypes.get_errno())
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def hear_signals_at_once(on_stop: Callable[[], None]) -> None:
    """
    Let the event loop wake for SIGTERM, SIGINT and SIGHUP, and pass the first on to taskiq.

    Python runs taskiq's own handler only when something wakes the loop. A child gets Ctrl-C
    twice, from its terminal and from taskiq's main process: the second means nothing new.
    """
    loop = asyncio.get_running_loop()
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        theirs = signal.getsignal(number)

        def hear(number: int = number, theirs: object = theirs) -> None:
            if heard:
                log.info("worker.signal_again", signal=signal.Signals(number).name)
                return
            heard.append(number)
            log.info("worker.stopping", signal=signal.Signals(number).name)
            on_stop()
            if callable(theirs):
                theirs(number, None)

        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, hear)
