"""The identity of a process, which a later process with the same id does not share."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_KILL_DEADLINE_S = 10.0


class ProcessIdentity(BaseModel):
    """`started`: the boot of the machine and the tick in it when the process began."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str

    @staticmethod
    def of(pid: int) -> ProcessIdentity | None:
        """None if no such process runs; one that has ended and was not collected does not."""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            # The name, in parentheses, may hold anything; state and start time are fields 3 and 22.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                return ProcessIdentity(pid=pid, started=f"{boot}/{fields[19]}")
        return None

    def is_running(self) -> bool:
        return ProcessIdentity.of(self.pid) == self

    def end(self, *, grace_s: float) -> bool:
        """
        SIGTERM, and SIGKILL after `grace_s`; returns when it is gone. False if it was gone before.

        The signals go through a descriptor of the process, so they cannot reach another one.
        """
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if not self.is_running():
                    return False
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                if not _ended(handle, grace_s):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    _ended(handle, _KILL_DEADLINE_S)
                return True
            finally:
                os.close(handle)
        return False


def _ended(handle: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
