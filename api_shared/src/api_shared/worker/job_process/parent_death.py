"""
The end of a process when another process ends, without any code of its own.

Only the worker holds the write end of a pipe. When the worker ends, in whatever way, the kernel
closes that end and signals the owner of the read end (`O_ASYNC`, fcntl(2)). This works in the
middle of a C loop too. PR_SET_PDEATHSIG would not do: it follows only the parent, here the fork
server. On other systems than Linux, a job notices the end when it next writes.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

from api_shared.prctl import signal_when_parent_ends


def die_with(read_fd: int, *, group: bool = False) -> None:
    """Let SIGKILL end this process, or its whole group, once the write end is closed."""
    if sys.platform != "linux":
        return
    fcntl.fcntl(read_fd, fcntl.F_SETOWN, -os.getpgrp() if group else os.getpid())
    fcntl.fcntl(read_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(read_fd, fcntl.F_SETFL, fcntl.fcntl(read_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if _write_end_is_closed(read_fd):
        os.kill(os.getpid(), signal.SIGKILL)


def outlive(read_fd: int) -> None:
    """Undo `die_with`."""
    if sys.platform != "linux":
        return
    fcntl.fcntl(read_fd, fcntl.F_SETFL, fcntl.fcntl(read_fd, fcntl.F_GETFL) & ~os.O_ASYNC)
    if _write_end_is_closed(read_fd):
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent(parent_pid: int) -> None:
    """Let SIGKILL end this process when the thread that forked it ends."""
    signal_when_parent_ends(signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _write_end_is_closed(read_fd: int) -> bool:
    poll = select.poll()
    poll.register(read_fd, 0)
    return bool(poll.poll(0))
