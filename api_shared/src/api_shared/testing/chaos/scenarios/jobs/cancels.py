"""Cancels at random moments of a job's life, Redis gone for half of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

from api_shared.client.follow.handle import CancelAnswer
from api_shared.job import Job, Status
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.workers import load
from api_shared.testing.chaos.workers.ending_tasks import stumble
from api_shared.testing.servers.process_identity import ProcessIdentity

WITHIN_S = 3.0
"""From the kiq to the cancel, at most."""
AT_ONCE = 25
FLAGS = ("--max-async-tasks", "4")
"""So few tasks at a time that jobs wait in their queue too."""
NAP_S = 1.0

ENDS = {
    CancelAnswer.CANCELLED: {Status.CANCELLED},
    CancelAnswer.REQUESTED: {Status.CANCELLED, Status.COMPLETED, Status.FAILED},
    CancelAnswer.TOO_LATE: {Status.COMPLETED, Status.FAILED},
}


async def run(size: int, rng: Random, env: Environment) -> Report:
    modules = ("api_shared.testing.chaos.workers.ending_tasks",)
    for _ in range(2):
        await env.worker(*FLAGS, modules=modules)
    answers: dict[str, CancelAnswer] = {}
    for half, redis_is_there in enumerate((True, False)):
        if not redis_is_there:
            await asyncio.to_thread(env.services.redis.kill)
            env.say("killed Redis")
        gate = asyncio.Semaphore(AT_ONCE)
        plans = [(rng.randrange(5), rng.uniform(0, WITHIN_S)) for _ in range((size + half) // 2)]
        await asyncio.gather(*(_kiq_and_cancel(env, *plan, gate, answers) for plan in plans))
    await asyncio.to_thread(env.services.redis.start)
    await env.drain()
    jobs = {job_id: await env.ledger.get(job_id) for job_id in answers}
    for job_id, answer in answers.items():
        _check(env, job_id, jobs[job_id], answer)
    await env.expect(
        lambda: not _processes_alive(env.folder), 30, "no process of a CPU job is left"
    )
    answered = Counter(answer.value for answer in answers.values())
    return await env.report(all_complete=False, **answered)


async def _kiq_and_cancel(
    env: Environment,
    kind: int,
    after_s: float,
    gate: asyncio.Semaphore,
    answers: dict[str, CancelAnswer],
) -> None:
    folder = str(env.folder)
    async with gate:
        match kind:
            case 0:
                job_id = await env.kiq(load.nap, folder, NAP_S, delay=WITHIN_S / 2)
            case 1:
                job_id = await env.kiq(stumble, folder)
            case 2:
                job_id = await env.kiq(load.crunch, folder, f"crunch-{after_s}", NAP_S)
            case _:
                job_id = await env.kiq(load.nap, folder, NAP_S)
        if job_id is None:
            return
        await asyncio.sleep(after_s)
        answers[job_id] = await env.broker.handle(job_id).cancel()


def _check(env: Environment, job_id: str, job: Job | None, answer: CancelAnswer) -> None:
    if job is None or job.status not in ENDS[answer]:
        status = job and job.status
        env.findings.append(f"job {job_id}: the cancel said {answer}; it is {status}")
    elif answer is CancelAnswer.CANCELLED:
        end = [entry.status for entry in job.history].index(Status.CANCELLED)
        env.check(not job.history[end + 1 :], f"job {job_id} went on after its cancel")


def _processes_alive(folder: Path) -> list[int]:
    """Processes of CPU jobs that still run: each has a trace of its own and ends with its job."""
    crunched = [
        int(path.stem)
        for path in folder.glob("*.trace")
        if "crunch-" in path.read_text(encoding="utf-8")
    ]
    return [pid for pid in crunched if ProcessIdentity.of(pid)]


SCENARIO = Scenario(
    name="cancel-anywhere",
    fault="cancel at random moments of scheduled, queued, running, retrying and CPU jobs; "
    "Redis is killed for half of them",
    holds="cancelled xor completed, as the cancel said; no process of a CPU job is left",
    small=60,
    full=500,
    run=run,
)
