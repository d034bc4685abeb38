"""
A worker process for the tests to kill: `python -m compute_worker [--forked]`.

Runs jobs that never end and prints each process id that must not survive it, one a line.
`--forked`: from a child of multiprocessing, as `taskiq worker` runs its workers; runs one job to
its end and prints its result.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from typing import Any

import compute_jobs
from api_shared.worker.job_process import ProcessExecutor


async def run_for_ever() -> None:
    compute = ProcessExecutor(preload=("compute_jobs",))
    await compute.start()
    say(compute.server_pid)
    await asyncio.gather(
        *(
            compute.run(function, on_progress=say_pids)
            for function in (
                compute_jobs.say_pid_and_wait,
                compute_jobs.loop_in_c_and_say_so,
                compute_jobs.leave_processes_and_loop,
            )
        )
    )


async def run_once() -> None:
    compute = ProcessExecutor(preload=("compute_jobs",))
    say(await compute.run(compute_jobs.add, (1, 2)))
    await compute.close()


def forked() -> None:
    asyncio.run(run_once())


def say_pids(update: dict[str, Any]) -> None:
    for pid in (update["done"], *update.get("others", ())):
        say(pid)


def say(what: Any) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if "--forked" in sys.argv:
        child = multiprocessing.get_context("fork").Process(target=forked)
        child.start()
        child.join()
    else:
        asyncio.run(run_for_ever())
