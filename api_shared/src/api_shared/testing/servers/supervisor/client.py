"""A client of the supervisor: the owner's end of its lifeline."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from api_shared.testing.servers.errors import ServicesError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_END_DEADLINE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One process to start. `env` is its whole environment; `port` is what it listens on."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    log: str
    port: int


class SupervisorClient:
    """
    A running supervisor process. Closing it, or dying, stops its servers.

    Safe to use from several threads: one request is under way at a time.
    """

    def __init__(self, folder: Path, *, remove: bool) -> None:
        argv = [
            sys.executable,
            "-P",  # or the modules beside the script would hide others of the same name
            str(_SUPERVISOR),
            str(folder),
            *(["--remove"] if remove else []),
        ]
        self._lock = threading.Lock()
        # Its errors go to a file: a detached supervisor must not hold the terminal it came from.
        with (folder / "supervisor.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, name: str, processes: Sequence[ProcessSpec]) -> int:
        """Start a server, after what is left of its last run was killed; returns its process id."""
        answer = self._ask(do="start", name=name, processes=[asdict(spec) for spec in processes])
        return int(answer["pid"])

    def stop(self, name: str, *, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. Returns when the server is gone."""
        self._ask(do="stop", name=name, grace_s=grace_s)

    def kill(self, name: str) -> None:
        """SIGKILL. Returns when the server is gone."""
        self._ask(do="kill", name=name)

    def poll(self, name: str) -> tuple[int | None, int | None]:
        """Process id while the server runs, exit code once it ended by itself."""
        answer = self._ask(do="poll", name=name)
        return answer["pid"], answer["exit"]

    def let_go(self) -> int:
        """Let the servers outlive this process; returns the supervisor's id: SIGTERM ends it."""
        self._ask(do="detach")
        self._cut()
        # Not ours to wait for any more: Popen would warn about it when it is collected.
        self._process.returncode = 0
        return self._process.pid

    def close(self) -> None:
        """Cut the lifeline and wait until every server has been stopped. Harmless twice."""
        self._cut()
        try:
            self._process.wait(_END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel takes the servers with it
            self._process.wait()

    def _cut(self) -> None:
        with self._lock:
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    if stream is not None:
                        stream.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101 - both are pipes
        with self._lock:
            try:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
                line = stdout.readline()
            except (OSError, ValueError) as error:
                raise ServicesError(
                    f"the supervisor of the local services is gone: {error}"
                ) from error
        if not line:
            raise ServicesError("the supervisor of the local services is gone")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise ServicesError(f"the supervisor could not {request['do']}: {answer['error']}")
        return answer
