"""
The fork server's process, started as `python -m ….fork_server_main CONTROL_FD LIFELINE_FD`.

It is started by exec, so that it holds no connection of the worker. It loads the heavy modules
once, then forks a process for each job and reports its end. It never runs a job's code itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path

from api_shared import prctl
from api_shared.worker.job_process import child, parent_death
from api_shared.worker.job_process.framing import Kind, frame, read_frame


def main(control_fd: int, lifeline_fd: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {child.SOFT_LIMIT_SIGNAL})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, child.ignore)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent_death.die_with(lifeline_fd)  # while the imports keep us from reading the control socket
    with socket.socket(fileno=control_fd) as control:
        hello = read_frame(control)
        if hello is None or not _load(control, **json.loads(hello[1])):
            return
        parent_death.outlive(lifeline_fd)
        os.close(lifeline_fd)
        prctl.adopt_orphans()
        Server(control).serve()


def _load(control: socket.socket, *, preload: list[str], sys_path: list[str]) -> bool:
    sys.path[:] = sys_path
    for name in preload:
        try:
            importlib.import_module(name)
        except BaseException as error:
            text = "".join(traceback.format_exception(error))
            problem = {"module": name, "error": f"{type(error).__name__}: {error}", "text": text}
            control.sendall(frame(Kind.FAILED, json.dumps(problem).encode()))
            return False
    # The loaded modules stay: the collector does not touch them, so their pages stay shared.
    gc.collect()
    gc.freeze()
    control.sendall(frame(Kind.READY, b"{}"))
    return True


class Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pid = os.getpid()
        self._jobs: dict[int, int] = {}
        """Job number by process id."""

    def serve(self) -> None:
        """Serve until the worker is gone. No process that was forked here is left then."""
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        os.set_blocking(wake_r, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, child.ignore)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wake_r, selectors.EVENT_READ)
            try:
                while True:
                    ready = {key.fd for key, _ in selector.select()}
                    if wake_r in ready:
                        os.read(wake_r, 4096)
                        self._reap()
                    if self._control.fileno() in ready and not self._obey():
                        return
            except (BrokenPipeError, ConnectionResetError):
                return
            finally:
                self._kill_everything()

    def _obey(self) -> bool:
        received = read_frame(self._control, descriptors=2)
        if received is None:
            return False
        kind, payload, descriptors = received
        message = json.loads(payload)
        if kind is Kind.FORK:
            self._fork(message["job"], *descriptors)
        else:
            number = child.SOFT_LIMIT_SIGNAL if kind is Kind.STOP else signal.SIGKILL
            self._signal(message["job"], number)
        return True

    def _fork(self, job: int, channel_fd: int, lifeline_fd: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._report(Kind.ENDED, job=job, problem=str(error))
            return
        else:
            if pid == 0:
                child.run_job(channel_fd, lifeline_fd, self._pid)
            _set_group(pid)
            self._jobs[pid] = job
            self._report(Kind.STARTED, job=job, pid=pid)
        finally:
            os.close(channel_fd)
            os.close(lifeline_fd)

    def _signal(self, job: int, number: int) -> None:
        for pid, running in self._jobs.items():
            if running == job:
                if number == signal.SIGKILL:
                    _kill_group(pid)
                else:
                    os.kill(pid, number)
                return

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                break
            pid = ended.si_pid
            if pid in self._jobs:
                _kill_group(pid)  # its zombie keeps the group's number in use until waitpid
            _, status = os.waitpid(pid, 0)
            if (job := self._jobs.pop(pid, None)) is not None:
                self._report(Kind.ENDED, job=job, status=status)
        for pid in _children() - self._jobs.keys():
            os.kill(pid, signal.SIGKILL)  # left behind by a job, in a group of its own

    def _kill_everything(self) -> None:
        for pid in self._jobs:
            _kill_group(pid)
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _report(self, kind: Kind, **message: object) -> None:
        self._control.sendall(frame(kind, json.dumps(message).encode()))


def _set_group(pid: int) -> None:
    """Both sides of the fork set the group, so that it exists before anyone signals it."""
    with contextlib.suppress(PermissionError, ProcessLookupError):  # it was faster, or is gone
        os.setpgid(pid, pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _children() -> set[int]:
    """The direct children: jobs, and orphans of jobs that have ended. None on macOS."""
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return set()
    return {int(pid) for pid in listed.split()}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
