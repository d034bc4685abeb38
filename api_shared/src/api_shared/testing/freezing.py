"""Frozen processes, as on a machine that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api_shared.testing.waiting import NotInTime

_STANDS_STILL = frozenset("TtZX")
"""The states of a thread that runs no more: stopped, traced, ended."""


def freeze(*pids: int) -> None:
    """
    Stop the processes, and return when none of their threads runs.

    The signal alone is not enough: on a busy machine a thread still answers a request after it.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not all(_stands_still(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise NotInTime(f"{pids} stand still", 60)
        time.sleep(0.001)


def thaw(*pids: int) -> None:
    """Let them go on."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """
    A block in which the processes keep their connections and answer nothing.

        with subprocess.Popen(["sleep", "60"]) as child:
            with frozen(child.pid):
                assert " T " in Path(f"/proc/{child.pid}/stat").read_text()
            child.kill()
    """
    freeze(*pids)
    try:
        yield
    finally:
        thaw(*pids)


def _stands_still(pid: int) -> bool:
    return all(_state(thread) in _STANDS_STILL for thread in Path(f"/proc/{pid}/task").iterdir())


def _state(thread: Path) -> str:
    try:
        stat = (thread / "stat").read_text()
    except OSError:  # it has ended since
        return "X"
    return stat.rpartition(")")[2].split()[0]
