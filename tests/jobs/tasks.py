"""
The tests' own tasks. They speak with the test through files in a `folder`: `NAME.started` when a
body has begun, `NAME.go` for it to end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from taskiq import Context, TaskiqDepends

from api_shared.client.contract import FailedJob
from api_shared.errors import Discard, Snooze
from api_shared.worker.context import JobContext
from api_shared.worker.job_process import current_job
from jobs.broker import broker

POLL_S = 0.02


def say(folder: str, name: str, word: str = "") -> None:
    """A line more in the file `name`: how often, and in which order."""
    with (Path(folder) / name).open("a") as file:
        file.write(f"{word}\n")


async def told_to_go(folder: str, name: str) -> None:
    go = Path(folder) / f"{name}.go"
    while not go.exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(POLL_S)


def write_failure(failed: FailedJob) -> None:
    if "folder" in failed.args:
        say(failed.args["folder"], "on_failure", f"{failed.job_id} {failed.reason}")


@broker.task(task_name="add")
async def add(a: int, b: int) -> int:
    return a + b


@broker.task(task_name="note")
async def note(folder: str, word: str) -> None:
    say(folder, "notes", word)


@broker.task(task_name="log_as_libraries_do")
async def log_as_libraries_do(words: str) -> None:
    logging.getLogger("library").warning("called %s", words)


@broker.task(task_name="hold", timeout=120, soft_timeout=110)
async def hold(folder: str, name: str, job: JobContext = TaskiqDepends()) -> int:
    """Runs until it is told to go; returns the number of its claim."""
    say(folder, f"{name}.started", str(os.getpid()))
    try:
        await told_to_go(folder, name)
    except asyncio.CancelledError:
        say(folder, f"{name}.cancelled")
        raise
    return job.claim_no


@broker.task(task_name="nap")
async def nap(folder: str, name: str, seconds: float) -> None:
    say(folder, f"{name}.started", str(os.getpid()))
    await asyncio.sleep(seconds)


@broker.task(task_name="hold_and_fail", backoff_s=0.1)
async def hold_and_fail(folder: str, name: str) -> None:
    say(folder, f"{name}.attempts", "one")
    say(folder, f"{name}.started")
    await told_to_go(folder, name)
    raise RuntimeError("told to fail")


@broker.task(task_name="stubborn", soft_timeout=0.3, timeout=0.8, max_retries=0)
async def stubborn(folder: str, name: str) -> str:
    """Swallows every cancellation until it is told to go."""
    say(folder, f"{name}.started", str(os.getpid()))
    while not (Path(folder) / f"{name}.go").exists():
        try:
            await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            say(folder, f"{name}.cancelled")
    say(folder, f"{name}.ended")
    return "late"


@broker.task(task_name="slow", soft_timeout=0.3, timeout=5, max_retries=0)
async def slow(folder: str, name: str) -> None:
    """Runs into its soft limit and cleans up."""
    say(folder, f"{name}.started")
    try:
        await asyncio.sleep(60)
    finally:
        say(folder, f"{name}.cleaned")


@broker.task(task_name="flaky", backoff_s=0, max_retries=5)
async def flaky(failures: int, job: JobContext = TaskiqDepends()) -> int:
    """Fails `failures` times; returns the attempt that succeeded."""
    if job.attempt <= failures:
        raise RuntimeError(f"attempt {job.attempt} of {failures + 1}")
    return job.attempt


@broker.task(task_name="hopeless", backoff_s=0.1, max_retries=2, on_failure=write_failure)
async def hopeless(folder: str) -> None:
    say(folder, "hopeless", "attempt")
    raise RuntimeError("there is no hope")


def fail_slowly(failed: FailedJob) -> Any:
    write_failure(failed)
    return asyncio.sleep(float(failed.args["hook_s"]))


@broker.task(task_name="mourned", max_retries=0, on_failure=fail_slowly)
async def mourned(folder: str, hook_s: float) -> None:
    raise RuntimeError("its hook takes its time")


@broker.task(task_name="forbidden", permanent=(PermissionError,))
async def forbidden() -> None:
    raise PermissionError("not today")


@broker.task(task_name="discard", on_failure=write_failure)
async def discard(folder: str, reason: str) -> None:
    raise Discard(reason)


@broker.task(task_name="snooze", max_retries=0)
async def snooze(times: int, delay_s: float, job: JobContext = TaskiqDepends()) -> list[int]:
    """Snoozes `times` times; its attempt and claim after that."""
    if job.claim_no <= times:
        raise Snooze(delay_s)
    return [job.attempt, job.claim_no]


ODD_RESULTS: dict[str, Any] = {
    "huge": 2**70,
    "surrogate": "\ud800",
    "bytes": b"\xff",
    "object": object(),
    "cycle": [],
}
ODD_RESULTS["cycle"].append(ODD_RESULTS["cycle"])


@broker.task(task_name="odd_result")
async def odd_result(kind: str) -> Any:
    return ODD_RESULTS[kind]


@broker.task(task_name="ratio")
async def ratio(number: float) -> float:
    return (number and 1 / number) or float("nan")


@broker.task(task_name="big_result")
async def big_result(size: int) -> str:
    return "x" * size


@broker.task(task_name="wrong_result")
async def wrong_result() -> int:
    return "a word"  # type: ignore[return-value]


@broker.task(task_name="length")
async def length(text: str) -> int:
    return len(text)


@broker.task(task_name="report")
async def report(folder: str, name: str, steps: int, job: JobContext = TaskiqDepends()) -> int:
    """Says its progress again and again until it is told to go."""
    done = 0
    while not (Path(folder) / f"{name}.go").exists():
        done = min(done + 1, steps)
        job.progress(done, steps, stage="steps", message=f"step {done}")
        await asyncio.sleep(POLL_S)
    return done


@broker.task(task_name="journal", timeout=120, soft_timeout=110)
async def journal(folder: str, job: JobContext = TaskiqDepends()) -> list[int]:
    """Records each of five steps; runs the third for ever in its first claim."""
    for step in range(5):
        if job.recall(f"step-{step}") is not None:
            continue
        if step == 2 and job.claim_no == 1:
            say(folder, "journal.started", str(os.getpid()))
            await asyncio.sleep(100)
        say(folder, "steps", str(step))
        await job.record(f"step-{step}", {"by": job.claim_no})
    return [job.recall(f"step-{step}")["by"] for step in range(5)]


@broker.task(task_name="recite", timeout=120, soft_timeout=110)
async def recite(folder: str, job: JobContext = TaskiqDepends()) -> str:
    """Writes a text; its first claim stops in the middle of it, for ever."""
    text = f"Run {job.claim_no} says all that it has to say."
    await job.write(text[:20])
    if job.claim_no == 1:
        say(folder, "recite.started", str(os.getpid()))
        await asyncio.sleep(100)
    await job.write(text[20:])
    return text


class Connection:
    """A dependency's value: its job's own."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.is_open = True


async def connection(context: Context = TaskiqDepends()) -> Any:
    """Gives way between its parts, so that jobs that run side by side could mix them up."""
    opened = Connection(context.message.task_id)
    await asyncio.sleep(POLL_S)
    yield opened
    opened.is_open = False


@broker.task(task_name="dependencies")
async def dependencies(
    word: str,
    context: Context = TaskiqDepends(),
    opened: Connection = TaskiqDepends(connection, use_cache=False),
    job: JobContext = TaskiqDepends(),
) -> dict[str, Any]:
    await asyncio.sleep(POLL_S)
    ids = [context.message.task_id, opened.job_id, job.id]
    return {"word": word, "ids": ids, "open": opened.is_open, "labels": context.message.labels}


@broker.task(task_name="limited_text")
async def limited_text(text: Annotated[str, Field(max_length=5)]) -> str:
    return text


@broker.task(task_name="square")
def square(number: int) -> list[int]:
    """Synchronous: its result, and the process it ran in."""
    current_job().progress(1, 1, "squared")
    return [number * number, os.getpid()]


@broker.task(task_name="block", soft_timeout=100, timeout=100, max_retries=0)
def block(folder: str, name: str) -> None:
    """Synchronous, and deaf."""
    say(folder, f"{name}.started", str(os.getpid()))
    while not (Path(folder) / f"{name}.go").exists():
        try:
            time.sleep(POLL_S)
        except Exception:
            continue


@broker.task(task_name="block_limited", soft_timeout=0.3, timeout=0.6, max_retries=0)
def block_limited() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:
            continue


@broker.task(task_name="crash_sync", max_retries=0)
def crash_sync() -> None:
    os._exit(9)
