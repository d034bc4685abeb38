"""
CPU slots: the limit of CPU-bound jobs on a host, shared by all its worker processes.

A slot is a file with an exclusive flock(2): the kernel frees it when its holder dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
import tempfile
from pathlib import Path
from random import Random
from types import TracebackType

from api_shared.worker.job_process.errors import ComputeError

log = logging.getLogger(__name__)

_POLL_S = (0.05, 0.1)


class SlotFolderUnsafe(ComputeError):
    """Another user could take or hold the slots."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path} {problem}: remove it, or name another folder for the slots")


def default_slot_folder() -> Path:
    """The user's own folder: in XDG_RUNTIME_DIR, else in the folder for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "api-workers" / "slots"
    return Path(tempfile.gettempdir()) / f"api-workers-{os.getuid()}" / "slots"


class Slot:
    """The right to run one job. Its holder releases it; releasing twice is harmless."""

    def __init__(self, folder: SlotFolder, number: int, fd: int) -> None:
        self.number = number
        self._folder = folder
        self._fd = fd

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            self._folder._released(self.number)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class SlotFolder:
    """
    `count` slots in the folder `path`. Every process that names the same folder shares them.

    Within a process, waiting callers are served in order. Between processes, the first to ask after
    a release gets the slot. Descriptors are close-on-exec, so that no other program holds a slot.
    """

    def __init__(self, path: Path, count: int, *, rng: Random | None = None) -> None:
        if count < 1:
            raise ValueError(f"count={count}: must be at least 1")
        self.path = path
        self.count = count
        self._rng = rng or Random()  # noqa: S311 - spreads polls
        self._held: set[int] = set()
        self._problem = ""
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        _make_private(path)

    @property
    def held(self) -> int:
        """Slots this process holds."""
        return len(self._held)

    def try_acquire(self) -> Slot | None:
        """A free slot. None if there is none, or if a caller in this process waits for it."""
        return None if self._turn.locked() else self._take()

    async def acquire(self) -> Slot:
        """Waits for its turn, then for a slot; one freed by another process is seen in 0.1 s."""
        async with self._turn:
            while True:
                self._freed.clear()
                if (slot := self._take()) is not None:
                    return slot
                # Not wait_for: on 3.11 it loses a cancel that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._rng.uniform(*_POLL_S)):
                        await self._freed.wait()

    def _take(self) -> Slot | None:
        """A free slot. A removed folder is made again; an unusable one has no free slot."""
        try:
            try:
                slot = self._lock_one()
            except FileNotFoundError:
                _make_private(self.path)
                slot = self._lock_one()
        except (OSError, SlotFolderUnsafe) as error:
            if self._problem != str(error):  # it is asked again and again
                log.warning("slots.unusable path=%s error=%s", self.path, error)
            self._problem = str(error)
            return None
        self._problem = ""
        return slot

    def _lock_one(self) -> Slot | None:
        for number in range(self.count):
            if number in self._held:
                continue
            fd = os.open(self.path / f"slot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(fd)
                if isinstance(error, BlockingIOError):
                    continue
                raise
            self._held.add(number)
            return Slot(self, number, fd)
        return None

    def _released(self, number: int) -> None:
        self._held.discard(number)
        self._freed.set()


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (owner := path.parent.stat().st_uid) not in (0, os.getuid()):
        raise SlotFolderUnsafe(path.parent, f"belongs to user {owner}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise SlotFolderUnsafe(path, "is not a folder")
    if found.st_uid != os.getuid():
        raise SlotFolderUnsafe(path, f"belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
