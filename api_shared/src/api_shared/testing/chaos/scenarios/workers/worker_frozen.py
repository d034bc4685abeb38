"""A worker that is frozen for longer than its lease, and goes on."""

from __future__ import annotations

from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.trace import read_trace
from api_shared.testing.chaos.workers.process_tasks import GO, wait_for_go
from api_shared.testing.freezing import freeze, thaw
from api_shared.testing.waiting import until

MODULES = ("api_shared.testing.chaos.workers.process_tasks",)


async def run(size: int, _: Random, env: Environment) -> Report:
    frozen = await env.worker("--max-async-tasks", str(size), modules=MODULES)
    ids = await env.kiq_many(size, wait_for_go, str(env.folder))
    await _begun(env, ids, 1)
    await env.worker("--max-async-tasks", str(size), modules=MODULES)
    freeze(*frozen.group)
    env.say("the worker is frozen")
    await _begun(env, ids, 2)
    (env.folder / GO).touch()
    await env.drain()
    env.say("all have ended elsewhere; the worker goes on")
    thaw(*frozen.group)
    # Once it takes jobs again, it knows that its claims are lost.
    after = await env.naps(2 * size, 0.1)
    await env.drain()
    await until(
        lambda: "job.claim_lost" in frozen.log, 60, "the frozen worker's writes are refused"
    )
    for job in await every_job(env.ledger):
        if job.id in ids:
            env.check(
                (job.result, job.claim_no) == (2, 2),
                f"job {job.id} holds what the frozen worker wrote",
            )
        elif job.id in after:
            env.check(job.claim_no == 1, f"job {job.id} ran again for no reason")
    frozen.terminate()
    env.check(await frozen.wait() == 0, "the worker did not exit with 0 after its freeze")
    return await env.report()


async def _begun(env: Environment, ids: list[str], times: int) -> None:
    def all_have() -> bool:
        begun = read_trace(env.folder).begun
        return all(begun[job_id] == times for job_id in ids)

    await until(all_have, 120, f"each task has begun {times} times")


SCENARIO = Scenario(
    name="worker-frozen",
    fault="SIGSTOP of a worker for longer than its lease, then SIGCONT",
    holds="the frozen worker's writes are refused; one terminal status each",
    small=4,
    full=50,
    run=run,
)
