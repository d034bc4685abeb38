"""Many callers at once, over many connections, with one unique key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random

from api_shared.client.kiq import Accepted, accept
from api_shared.client.runtime import Runtime
from api_shared.client.started_brokers import Submission
from api_shared.client.unique import UniqueFor
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.load import nap
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

CALLERS = 100
LINKS = 10
"""Services that kiq: callers of one service share a batch, those of another race with it."""

SCOPES: tuple[UniqueFor, ...] = ("waiting", "open", timedelta(days=1))


async def run(size: int, rng: Random, ground: Environment) -> Report:
    args = nap.contract.parse((str(ground.folder), 0.0), {})
    async with AsyncExitStack() as stack:
        runtime = ground.broker.runtime
        services = [await stack.enter_async_context(_service(runtime)) for _ in range(LINKS)]

        async def race(key: str, unique_for: UniqueFor) -> list[Accepted]:
            asked = Submission(nap.contract, args, unique_key=key, unique_for=unique_for)
            callers = [services[number % LINKS] for number in range(CALLERS)]
            rng.shuffle(callers)
            return await asyncio.gather(*(accept(asked, caller) for caller in callers))

        # No worker runs yet: a job that had ended would free its key, and rightly.
        for number in range(size):
            accepted = await race(f"race-{number}", SCOPES[number % len(SCOPES)])
            jobs = {each.job.id for each in accepted}
            new = sum(not each.deduplicated for each in accepted)
            ground.check(
                (len(jobs), new) == (1, 1), f"race {number}: {len(jobs)} jobs, {new} called new"
            )
            ground.accepted |= jobs
            ground.say(f"race {number}: {new} of {CALLERS} callers made the job")
        await ground.worker()
        await ground.drain()
        for number, unique_for in enumerate(SCOPES[:size]):
            [first, *_] = await race(f"race-{number}", unique_for)
            is_free = first.job.id not in ground.accepted
            is_period = isinstance(unique_for, timedelta)
            ground.check(
                is_free is not is_period, f"after its end: key free {is_free}, {unique_for}"
            )
            ground.accepted.add(first.job.id)
        await ground.drain()
    return await ground.report(races=size, callers=CALLERS)


@asynccontextmanager
async def _service(runtime: Runtime) -> AsyncIterator[Runtime]:
    """Another service: with a connection of its own to the ledger."""
    ledger = MongoLedger(runtime.settings)
    await ledger.start()
    try:
        yield replace(runtime, ledger=ledger)
    finally:
        await ledger.close()


SCENARIO = Scenario(
    name="unique-races",
    fault=f"{CALLERS} callers of {LINKS} services kiq one unique key at once",
    holds="one job a key",
    small=12,
    full=200,
    run=run,
)
