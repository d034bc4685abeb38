"""Functions that the tests of `ProcessExecutor` run in processes of their own."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from api_shared.errors import Snooze
from api_shared.worker.job_process import SlotFolder, SoftLimitReached, current_job

STOP_AFTER_FORK = "COMPUTE_TEST_STOP_AFTER_FORK"

if os.environ.get(STOP_AFTER_FORK):
    os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGSTOP))


class Score(BaseModel):
    label: str
    value: float


def add(left: int, right: int) -> int:
    return left + right


def score(label: str, value: float) -> list[Score]:
    return [Score(label=label, value=value)]


def size_of(data: bytes) -> int:
    return len(data)


def text_of_size(size: int) -> str:
    return "x" * size


def not_a_number() -> dict[str, Any]:
    return {"NaN": "Infinity", "scores": [1.0, {"loss": math.nan}]}


def unencodable() -> object:
    return object()


def fail(message: str) -> None:
    raise UnicodeError(message)


def fail_without_text() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Silent(object())


def snooze(delay_s: float) -> None:
    raise Snooze(delay_s)


def exit_politely(code: int) -> None:
    sys.exit(code)


def exit_at_once(code: int) -> None:
    os._exit(code)


def segfault() -> None:
    ctypes.string_at(0)


def loop_in_python() -> None:
    while True:
        pass


def loop_in_c() -> int:
    return sum(range(10**15))


def loop_in_c_and_say_so() -> None:
    current_job().progress(os.getpid())
    # Unlike `loop_in_c` it lets go of the interpreter, so that the progress is sent.
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2**31 - 1)


def swallow_every_error() -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def save_at_soft_limit() -> str:
    try:
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                return "swallowed"
    except SoftLimitReached:
        return "saved"


def look_at_stop_requested() -> str:
    current_job().raise_at_soft_limit = False
    while not current_job().stop_requested:
        time.sleep(0.01)
    return "stopped"


def allocate(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def wait_for_file(path: str) -> str:
    current_job().progress(os.getpid())
    while not Path(path).exists():
        time.sleep(0.01)
    return "found"


def say_pid_and_wait() -> None:
    current_job().progress(os.getpid())
    signal.pause()


def say_pid_and_return_much(size: int) -> str:
    current_job().progress(os.getpid())
    return "x" * size


def report(total: int) -> int:
    for done in range(total + 1):
        current_job().progress(done, total, message=f"{done} of {total}", loss=math.nan)
    return total


def report_slowly(total: int) -> None:
    for done in range(total + 1):
        current_job().progress(done, total)
        time.sleep(0.15)


def print_much() -> None:
    print("x" * 100_000)  # noqa: T201
    os.write(1, b"y" * 1000)


def descriptors() -> dict[str, str]:
    found = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:  # the listing's own
            continue
    return found


def surroundings() -> dict[str, Any]:
    return {
        "environ": dict(os.environ),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgrp(),
        "limits": Path("/proc/self/limits").read_text(),
    }


def random_number() -> float:
    return random.random()


def leave_process_behind(own_session: bool) -> int:
    program = [sys.executable, "-c", "import signal; signal.pause()"]
    return subprocess.Popen(program, start_new_session=own_session).pid


def start_daemon_and_wait(path: str) -> bool:
    """A process whose parent has exited must live on as long as the job does."""
    started = subprocess.run(
        ["sh", "-c", "sleep 60 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True
    )
    daemon = int(started.stdout)
    wait_for_file(path)
    os.kill(daemon, 0)
    return "sleep" in Path(f"/proc/{daemon}/cmdline").read_text()


def leave_processes_and_loop() -> None:
    current_job().progress(
        os.getpid(), others=[leave_process_behind(False), leave_process_behind(True)]
    )
    loop_in_python()


def slot_is_free(folder: str, count: int) -> bool:
    return SlotFolder(Path(folder), count).try_acquire() is not None


def hold_slot(folder: str, count: int) -> None:
    assert SlotFolder(Path(folder), count).try_acquire() is not None
    say_pid_and_wait()


def nap(duration_s: float) -> tuple[float, float]:
    began = time.monotonic()
    time.sleep(duration_s)
    return began, time.monotonic()
