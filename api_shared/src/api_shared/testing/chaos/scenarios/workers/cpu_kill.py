"""kill -9 of the process of a CPU job, while other jobs run."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.workers.load import crunch
from api_shared.testing.chaos.workers.process_tasks import victim
from api_shared.testing.waiting import until
from api_shared.worker.job_process import SlotFolder, default_slot_folder

SLOTS = 3
CRUNCH_S = 0.2


async def run(size: int, rng: Random, env: Environment) -> Report:
    worker = await env.worker(
        modules=("api_shared.testing.chaos.workers.process_tasks",),
        variables={"ML_WORKER_COUNT": str(SLOTS)},
    )
    folder = str(env.folder)
    waiting = set(await env.kiq_many(size, victim, folder))
    victims = frozenset(waiting)
    beside = [await env.kiq(crunch, folder, f"crunch-{n}", CRUNCH_S) for n in range(size)]
    naps = await env.naps(size, CRUNCH_S)

    def written() -> list[str]:
        files = (job_id for job_id in waiting if (env.folder / f"{job_id}.victim").exists())
        return [each for each in files if (env.folder / f"{each}.victim").read_text()]

    while waiting:
        found: list[str] = await until(written, 120, "a victim has written down its process")
        job_id = rng.choice(sorted(found))
        waiting.discard(job_id)
        os.kill(int((env.folder / f"{job_id}.victim").read_text()), signal.SIGKILL)
        env.say(f"killed the process of a CPU job; {len(waiting)} to go")
    await env.drain()

    counted = {job.id: (job.attempt, job.lost, job.claim_no) for job in await every_job(env.ledger)}
    again = [job_id for job_id in victims if counted[job_id] != (1, 0, 2)]
    env.check(not again, f"{len(again)} jobs whose process was killed did not run just once more")
    disturbed = [job_id for job_id in (*beside, *naps) if job_id and counted[job_id] != (0, 0, 1)]
    env.check(not disturbed, f"{len(disturbed)} neighbours noticed the kills")
    slots = SlotFolder(default_slot_folder(), SLOTS)

    def all_are_back() -> bool:
        """A worker may keep a slot for its next job for a moment."""
        with ExitStack() as taken:
            found = [slots.try_acquire() for _ in range(SLOTS)]
            for slot in filter(None, found):
                taken.enter_context(slot)
            return all(found)

    await until(all_are_back, 30, f"all {SLOTS} slots are back")
    env.check(worker.log.count('"worker.started"') == 1, "the worker itself ended")
    return await env.report(kills=size)


SCENARIO = Scenario(
    name="cpu-kill",
    fault="kill -9 of a CPU job's process",
    holds="only that job is retried; its neighbours finish; the slot is back",
    small=6,
    full=200,
    run=run,
)
