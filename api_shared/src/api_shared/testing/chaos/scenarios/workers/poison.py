"""Poison among good jobs, in the same processes."""

from __future__ import annotations

import asyncio
from itertools import cycle, islice
from random import Random
from typing import Any

from api_shared.job import Reason, Status
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.workers.load import nap
from api_shared.testing.chaos.workers.poison_tasks import (
    ASYNC,
    CPU,
    HARD_S,
    cpu_poison,
    huge_number,
    poison,
    stubborn,
)
from api_shared.testing.waiting import until

FULL = 50
PROCESSES = 2
GOOD_FOR_EACH = 40
"""In a full run. A small one has fewer, and fewer losses until a job fails."""
SIDE_BY_SIDE = 10
NAP_S = 0.2
MAX_ATTEMPTS = 2
KINDS: list[tuple[Any, tuple[str, ...], Reason]] = [
    *((poison, (kind,), reason) for kind, (_, reason) in ASYNC.items()),
    *((cpu_poison, (kind,), reason) for kind, (_, reason) in CPU.items()),
    (stubborn, (), Reason.TIME_LIMIT),
]


async def run(size: int, rng: Random, env: Environment) -> Report:
    folder = str(env.folder)
    max_lost = 3 if size >= FULL else 2
    good = size * (GOOD_FOR_EACH if size >= FULL else GOOD_FOR_EACH // 8)
    worker = await env.worker(
        "--max-async-tasks",
        str(SIDE_BY_SIDE),
        modules=("api_shared.testing.chaos.workers.poison_tasks",),
        processes=PROCESSES,
        variables={"TASK_MAX_LOST": str(max_lost)},
    )
    load: list[tuple[Any, tuple[Any, ...], Reason | None]] = [
        *((task, (folder, *args), reason) for task, args, reason in islice(cycle(KINDS), size)),
        *((nap, (folder, NAP_S), None) for _ in range(good)),
        (huge_number, (), None),
    ]
    rng.shuffle(load)
    ids = await asyncio.gather(*(env.kiq(task, *args) for task, args, _ in load))
    expected = {job_id: (args, reason) for job_id, (_, args, reason) in zip(ids, load, strict=True)}
    await env.drain(120 + 20 * size * HARD_S)

    async def all_confirmed() -> bool:
        return all(job.failure_told for job in await every_job(env.ledger) if job.error)

    await until(all_confirmed, 60, "each dead letter is confirmed")
    for job in await every_job(env.ledger):
        args, reason = expected[job.id]
        if reason is None:
            env.check(
                job.status is Status.COMPLETED,
                f"a good job is {job.status} ({job.error}), lost {job.lost} times",
            )
            continue
        found = job.error.reason if job.error and job.status is Status.FAILED else job.status
        # Where a blocked process cannot reach the ledger before it ends, its blocker is lost, too.
        allowed = (reason, Reason.LOST) if job.task == poison.task_name else (reason,)
        env.check(found in allowed, f"{job.task}{args[1:]} ended as {found}, not {reason}")
        env.check(
            job.attempt <= MAX_ATTEMPTS and job.lost <= max_lost,
            f"{job.task}{args[1:]} had {job.attempt} attempts and was lost {job.lost} times",
        )
    deaths = worker.log.count("restarted with pid")
    return await env.report(all_complete=False, poison=size, process_deaths=deaths)


SCENARIO = Scenario(
    name="poison",
    fault=f"{len(KINDS)} kinds of poison among good jobs, in the same processes",
    holds="dead-lettered with its reason after its attempts or losses; every good job completes",
    small=len(KINDS),
    full=FULL,
    run=run,
)
