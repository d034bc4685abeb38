"""The cache folder of programs, which are fetched once and used by every later start."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = "api-workers"
_LOCK_DEADLINE_S = 600.0
_LOCK_POLL_S = 0.1


def cache_folder() -> Path:
    """
    `$XDG_CACHE_HOME/api-workers`, else `~/.cache/api-workers`, else one in the temp folder.

    The last is for accounts that have no writable home. It is named after the user id and refused
    if another user owns it: programs are run from here.
    """
    for folder in _candidates():
        if _is_writable(folder):
            return folder
    fallback = Path(tempfile.gettempdir()) / f"{_FOLDER}-cache-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    if fallback.is_symlink() or fallback.stat().st_uid != os.getuid():
        raise PermissionError(f"{fallback} belongs to another user: set XDG_CACHE_HOME")
    return fallback


@contextmanager
def cache_lock(name: str, on_wait: Callable[[], None]) -> Iterator[Path]:
    """
    Hold `name` in the cache against other starters on this machine; yields the cache folder.

    `on_wait` is called once when another starter holds it. The kernel releases the lock when its
    holder ends, so there is no stale lock to clean up.
    """
    folder = cache_folder()
    with (folder / f"{name}.lock").open("a") as lock:
        deadline = time.monotonic() + _LOCK_DEADLINE_S
        reported = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{lock.name} was held for {_LOCK_DEADLINE_S:.0f} s"
                    ) from None
                if not reported:
                    on_wait()
                    reported = True
                time.sleep(_LOCK_POLL_S)
        yield folder


def _candidates() -> list[Path]:
    named = os.environ.get("XDG_CACHE_HOME", "")
    folders = [Path(named) / _FOLDER] if named and Path(named).is_absolute() else []
    with suppress(RuntimeError):  # no HOME, and no entry in the user database
        folders.append(Path.home() / ".cache" / _FOLDER)
    return folders


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
