"""kill -9 between any two steps of a job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from api_shared.job import Job, Reason, Status, new_job_id
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.workers.kill_points import (
    ACCEPTED,
    DEAD_LETTER_DECIDED,
    DEAD_LETTER_PUBLISHED,
    POINTS,
    RETRY_DECIDED,
    kiq_step,
    step,
)
from api_shared.testing.waiting import until

PROCESSES = 2
ROUNDS = 5
"""A job may be killed with another one before its point: then one more is sent to that point."""
DEAD = (DEAD_LETTER_DECIDED, DEAD_LETTER_PUBLISHED)


async def run(size: int, rng: Random, env: Environment) -> Report:
    points = [point for point in POINTS for _ in range(size)]
    rng.shuffle(points)
    worker = await env.worker(
        target="api_shared.testing.chaos.workers.crashing_worker:broker",
        processes=PROCESSES,
        variables={"TASK_MAX_LOST": "100"},  # a job is lost with the processes of others, too
    )
    at_point: dict[str, str] = {}
    for _ in range(ROUNDS):
        batch = await _kiq_all(points, env)
        at_point |= batch
        await until(partial(_are_over, batch, env), 120 + 10 * size, "all jobs are over")
        points = [point for job_id, point in batch.items() if not _passed(job_id, point, env)]
        if not points:
            break
        env.say(f"{len(points)} jobs were killed with another one before their point: once more")
    env.check(not points, f"{len(points)} jobs did not come to their points: {points[:5]}")
    await env.drain()
    for job_id, point in at_point.items():
        job = await env.ledger.get(job_id)  # with its journal
        if job is not None and (problem := _problem(job, point)):
            env.check(False, f"{job_id}, killed at {point!r}: {problem}")
    dead_letters = _dead_letters(env)
    missing = [j for j, point in at_point.items() if point in DEAD and j not in dead_letters]
    env.check(not missing, f"{len(missing)} failed jobs have no dead letter")
    deaths = worker.log.count("restarted with pid")
    return await env.report(all_complete=False, points=len(POINTS), deaths=deaths)


async def _kiq_all(points: Sequence[str], env: Environment) -> dict[str, str]:
    """A job for each point, by its id."""
    folder = str(env.folder)
    at_point: dict[str, str] = {}
    for point in points:
        if point == ACCEPTED:
            child_id = new_job_id()
            at_point[child_id] = point
            await env.kiq(kiq_step, folder, child_id)
        elif job_id := await env.kiq(step, folder, point):
            at_point[job_id] = point
    return at_point


async def _are_over(at_point: Mapping[str, str], env: Environment) -> bool:
    """Whether each has ended, and each dead letter is confirmed."""
    jobs = {job.id: job for job in await every_job(env.ledger)}
    env.accepted |= at_point.keys() & jobs.keys()
    return all(job_id in jobs and _is_over(jobs[job_id]) for job_id in at_point)


def _passed(job_id: str, point: str, env: Environment) -> bool:
    return (env.folder / f"{job_id}.{point}").exists()


def _is_over(job: Job) -> bool:
    return job.status.is_terminal and (job.status is not Status.FAILED or job.failure_told)


def _problem(job: Job, point: str) -> str | None:
    """What is wrong with how it ended."""
    if point in DEAD:
        reason = job.error.reason if job.error else None
        ended_well = job.status is Status.FAILED and reason is Reason.DISCARDED
        return None if ended_well and job.attempt == 1 else f"{job.status}, {reason}, {job.attempt}"
    if job.status is not Status.COMPLETED:
        return f"it is {job.status}"
    if job.result != json.loads(job.journal["effect"]):
        return "its effect is not the one that was recorded first"
    attempts = 1 if point == RETRY_DECIDED else 0
    return None if job.attempt == attempts else f"{job.attempt} attempts were counted"


def _dead_letters(env: Environment) -> set[str]:
    asked = {"count": 10_000, "ackmode": "ack_requeue_true", "encoding": "auto"}
    found = env.management("POST", f"queues/{env.name}/taskiq.dlq/get", asked)
    return {json.loads(message["payload"])["task_id"] for message in found}


SCENARIO = Scenario(
    name="worker-kill-points",
    fault=f"kill -9 at each of {len(POINTS)} named points of a job's way",
    holds="no loss, no second effect, at each point",
    small=2,
    full=100,
    run=run,
)
