"""Signals of a worker process, and the end of its parent."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

import structlog

from api_shared.prctl import signal_when_parent_ends

log = structlog.get_logger()


def follow_parent() -> None:
    """
    Receive SIGQUIT when taskiq's main process dies, kill -9 included: no orphan goes on consuming.

    SIGQUIT shuts down fast: what ends the main process (systemd, a container) kills the rest soon.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        signal_when_parent_ends(signal.SIGQUIT)
    except OSError as error:
        log.warning("process.no_parent_death_signal", errno=error.errno)
    main = multiprocessing.parent_process()
    if main is not None and os.getppid() != main.pid:
        os.kill(os.getpid(), signal.SIGQUIT)


def install_signal_handlers(
    on_stop: Callable[[], None], on_fast_shutdown: Callable[[], None]
) -> None:
    """
    Wake the event loop for SIGTERM, SIGINT, SIGHUP and SIGQUIT, and pass the first signal on to
    taskiq. SIGQUIT shuts down fast, whether it is the first signal or not.

    Python runs taskiq's own handler only when something wakes the loop. A child gets Ctrl-C
    twice, from its terminal and from taskiq's main process: the second one changes nothing.
    """
    loop = asyncio.get_running_loop()
    taskiqs_own = signal.getsignal(signal.SIGTERM)
    received: list[int] = []

    def on_signal(number: int) -> None:
        name = signal.Signals(number).name
        if received:
            log.info("worker.signal_again", signal=name)
        else:
            log.info("worker.stopping", signal=name)
            on_stop()
        received.append(number)
        if number == signal.SIGQUIT:
            on_fast_shutdown()
        if len(received) == 1 and callable(taskiqs_own):
            taskiqs_own(signal.SIGTERM, None)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, on_signal, number)


def retire() -> None:
    """End this process as SIGTERM would; taskiq's main process starts another."""
    os.kill(os.getpid(), signal.SIGTERM)
