"""A real worker process, started as users start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from api_shared.testing.waiting import LONG_S, until
from api_shared.worker.job_process.parent_death import die_with_parent


class WorkerProcess:
    """
    `taskiq worker …` in a process group of its own, that ends with this process however it goes;
    `pid` is its main process.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path
    ) -> None:
        self.log_path = log
        parent_pid = os.getpid()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "taskiq", "worker", *arguments],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                # Its children die with it; no module is imported there, and no lock is taken.
                preexec_fn=lambda: die_with_parent(parent_pid),  # noqa: PLW1509
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def group(self) -> list[int]:
        """All live processes of the group, the main one included."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    @property
    def children(self) -> list[int]:
        return [pid for pid in self.group if pid != self.pid]

    def kill(self) -> None:
        """SIGKILL for all processes of the group, as when the machine dies."""
        self._signal_group(signal.SIGKILL)
        self._process.wait(timeout=30)

    def kill_main(self) -> None:
        """SIGKILL for the main process alone."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(timeout=30)

    def terminate(self) -> None:
        """SIGTERM for the main process, as an init system does."""
        os.kill(self.pid, signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT for the whole group, as Ctrl-C in a terminal."""
        self._signal_group(signal.SIGINT)

    async def wait(self, within_s: float = LONG_S) -> int:
        """The exit code, once all processes of the group are gone."""
        await until(lambda: self.returncode is not None, within_s, "the worker has ended")
        await until(lambda: not self.group, within_s, "its processes have ended")
        return self._process.wait()

    def end(self) -> None:
        """SIGKILL for what is left of the group, whether it has ended or not."""
        self._signal_group(signal.SIGKILL)
        self._process.wait(timeout=30)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return
