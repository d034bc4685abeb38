"""
A process that starts private servers, and stops them when their owner ends.

Run as a script (`python supervisor.py FOLDER [--remove]`) with little more than the standard
library, in a session of its own, so that a Ctrl-C in the owner's terminal does not reach the
servers. Its standard input is the lifeline: when it closes, or its parent ends in whatever way
(kill -9 included; a forked child may still hold the lifeline then), every server is stopped, and
FOLDER is removed if `--remove` was given. Until then it answers one JSON line for each JSON line:

    {"do": "start", "name": "mongodb", "processes": [{"argv", "env", "cwd", "log", "port"}]}
    {"do": "stop", "name": "mongodb", "grace_s": 10}      SIGTERM, later SIGKILL
    {"do": "kill", "name": "mongodb"}                     SIGKILL
    {"do": "poll", "name": "mongodb"}                     {"pid": 1, "exit": null}
    {"do": "detach"}                                      from now on only SIGTERM ends it

No process escapes: the supervisor is the subreaper of all below it, so that a daemon of a server
becomes its child. If the supervisor itself is killed, the kernel kills the servers.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from api_shared.prctl import adopt_orphans, signal_when_parent_ends

GRACE_S = 15.0
COMPANION_DEADLINE_S = 10.0


class Group:
    """One server: its process, and the helpers that were started before it and end after it."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def main(self) -> subprocess.Popen[bytes] | None:
        return self.processes[-1] if self.processes else None

    def start(self, specs: list[dict[str, Any]]) -> int:
        """Start the specs in order; each but the last must listen on its port before the next."""
        self.kill()
        for spec in specs:
            self.processes.append(_spawn(spec))
            if spec is not specs[-1]:
                _wait_listening(spec["port"], self.processes[-1])
        return self.processes[-1].pid

    def stop(self, grace_s: float) -> None:
        """Ask the server to end, wait, then kill what is left of it and its helpers."""
        if self.main is not None and self.main.poll() is None:
            self.main.send_signal(signal.SIGTERM)
            self.main.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self.main.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, the server first, with everything that descends from it."""
        below = [pid for p in self.processes for pid in _descendants(p.pid)]
        for process in reversed(self.processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.processes.clear()
        _kill_all(below)


class Supervisor:
    """Servers by name."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.detached = False

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out the request of one line."""
        group = self.groups.setdefault(request.get("name", ""), Group())
        match request["do"]:
            case "start":
                return {"pid": group.start(request["processes"])}
            case "stop":
                group.stop(request["grace_s"])
            case "kill":
                group.kill()
            case "poll":
                if group.main is None:
                    return {"pid": None, "exit": None}
                code = group.main.poll()
                return {"pid": group.main.pid if code is None else None, "exit": code}
            case "detach":
                self.detached = True
        return {}

    def end(self, *, grace_s: float) -> None:
        """Stop all servers side by side, then whatever is still below this process."""
        for group in self.groups.values():
            if group.main is not None and group.main.poll() is None:
                group.main.send_signal(signal.SIGTERM)
                group.main.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + grace_s
        for group in self.groups.values():
            group.stop(max(0.0, deadline - time.monotonic()))
        _kill_all(_descendants(os.getpid()))


def main() -> None:
    folder, remove = Path(sys.argv[1]), "--remove" in sys.argv[2:]
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, lambda *_: os.write(wake_write, b"."))
    supervisor = Supervisor()
    try:
        _serve(supervisor, wake_read)
    finally:
        # Data that is removed anyway needs no orderly end.
        supervisor.end(grace_s=0.0 if remove else GRACE_S)
        if remove:
            shutil.rmtree(folder, ignore_errors=True)


def _serve(supervisor: Supervisor, wake: int) -> None:
    """Answer requests until SIGTERM, or until the lifeline closes unless detached."""
    lifeline, pending = 0, b""
    owner: int | None = None
    with suppress(OSError):  # Linux before 5.3: the lifeline alone must do
        owner = os.pidfd_open(os.getppid())
    sources = [fd for fd in (lifeline, wake, owner) if fd is not None]
    while True:
        readable, _, _ = select.select(sources, [], [])
        if wake in readable:
            return
        if owner in readable:
            if not supervisor.detached:
                return
            sources.remove(owner)
        if lifeline not in readable:
            continue
        data = os.read(lifeline, 65536)
        if not data:
            if not supervisor.detached:
                return
            sources.remove(lifeline)
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            _reply(_answered(supervisor, json.loads(line)))


def _answered(supervisor: Supervisor, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": True, **supervisor.answer(request)}
    except (OSError, subprocess.SubprocessError) as error:
        return {"ok": False, "error": str(error)}


def _reply(answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the owner is gone; the closed lifeline says so next
        os.write(1, json.dumps(answer).encode() + b"\n")


def _spawn(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    supervisor_pid = os.getpid()

    def die_with_supervisor() -> None:
        signal_when_parent_ends(signal.SIGKILL)
        if os.getppid() != supervisor_pid:  # it died before the line above
            os._exit(1)

    with Path(spec["log"]).open("ab") as log:
        return subprocess.Popen(
            spec["argv"],
            env=spec["env"],
            cwd=spec["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_supervisor,  # noqa: PLW1509 - this process has one thread
        )


def _wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + COMPANION_DEADLINE_S
    while True:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"{process.args!r} does not listen on port {port}")
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    """Ids of all processes below `pid`."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found, below = [], [pid]
    while below:
        new = children.get(below.pop(), [])
        found += new
        below += new
    return found


def _kill_all(pids: list[int]) -> None:
    """SIGKILL those of `pids` that are below this process now, and collect them."""
    deadline = time.monotonic() + 2.0
    for pid in set(pids) & set(_descendants(os.getpid())):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.01)


if __name__ == "__main__":
    main()
