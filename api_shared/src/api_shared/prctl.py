"""
Linux's prctl(2): a signal when a parent ends, and orphans adopted by an ancestor.

It uses only the standard library, since the supervisor of private servers starts with it. On other
systems than Linux these functions do nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def signal_when_parent_ends(number: int) -> None:
    """Get a signal when the thread that forked this process ends. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Make descendants whose parent dies children of this process, not of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
