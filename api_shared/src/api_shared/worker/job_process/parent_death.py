"""
The end of a process when another one ends, without its own help.

A pipe whose write end only the worker holds: when the worker is gone, however it went, the kernel
closes that end and signals the reader's owner (`O_ASYNC`, fcntl(2)). This works in the middle of a
C loop, and where PR_SET_PDEATHSIG does not: that follows the parent only, here the fork server.
Linux; elsewhere a job notices when it next writes.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

from api_shared.prctl import signal_when_parent_ends


def die_with(read_fd: int, *, group: bool = False) -> None:
    """SIGKILL for this process, or for its whole group, once the write end is closed."""
    if sys.platform != "linux":
        return
    fcntl.fcntl(read_fd, fcntl.F_SETOWN, -os.getpgrp() if group else os.getpid())
    fcntl.fcntl(read_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(read_fd, fcntl.F_SETFL, fcntl.fcntl(read_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if _write_end_is_closed(read_fd):
        os.kill(os.getpid(), signal.SIGKILL)


def outlive(read_fd: int) -> None:
    """Undoes `die_with`."""
    if sys.platform != "linux":
        return
    fcntl.fcntl(read_fd, fcntl.F_SETFL, fcntl.fcntl(read_fd, fcntl.F_GETFL) & ~os.O_ASYNC)
    if _write_end_is_closed(read_fd):
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent(parent_pid: int) -> None:
    """SIGKILL for this process when the thread that forked it ends."""
    signal_when_parent_ends(signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _write_end_is_closed(read_fd: int) -> bool:
    poll = select.poll()
    poll.register(read_fd, 0)
    return bool(poll.poll(0))
