"""A worker that stands still for longer than its lease, and wakes up."""

from __future__ import annotations

import os
import signal
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.process_tasks import GO, wait_for_go
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.trace import read_trace
from api_shared.testing.chaos.waiting import until

MODULES = ("api_shared.testing.chaos.process_tasks",)


async def run(size: int, _: Random, ground: Environment) -> Report:
    sleeper = await ground.worker("--max-async-tasks", str(size), modules=MODULES)
    ids = await ground.kiq_many(size, wait_for_go, str(ground.folder))
    await _begun(ground, ids, 1)
    await ground.worker("--max-async-tasks", str(size), modules=MODULES)
    for pid in sleeper.group:
        os.kill(pid, signal.SIGSTOP)
    ground.say("the worker stands still")
    await _begun(ground, ids, 2)
    (ground.folder / GO).touch()
    await ground.drain()
    ground.say("all have ended elsewhere; the worker wakes up")
    for pid in sleeper.group:
        os.kill(pid, signal.SIGCONT)
    # It has heard by itself that its claims are gone once it takes jobs again.
    after = await ground.naps(2 * size, 0.1)
    await ground.drain()
    await until(lambda: "job.claim_lost" in sleeper.log, 60, "the sleeper's writes are refused")
    for job in await every_job(ground.ledger):
        if job.id in ids:
            ground.check(
                (job.result, job.claim_no) == (2, 2), f"job {job.id} holds what the sleeper wrote"
            )
        elif job.id in after:
            ground.check(job.claim_no == 1, f"job {job.id} ran again for no reason")
    sleeper.terminate()
    ground.check(await sleeper.wait() == 0, "the worker did not end well after its sleep")
    return await ground.report()


async def _begun(ground: Environment, ids: list[str], times: int) -> None:
    def all_have() -> bool:
        begun = read_trace(ground.folder).begun
        return all(begun[job_id] == times for job_id in ids)

    await until(all_have, 120, f"each body has begun {times} times")


SCENARIO = Scenario(
    name="worker-frozen",
    fault="SIGSTOP of a worker for longer than its lease, then SIGCONT",
    holds="the sleeper's writes are refused; one terminal status each",
    small=4,
    full=50,
    run=run,
)
