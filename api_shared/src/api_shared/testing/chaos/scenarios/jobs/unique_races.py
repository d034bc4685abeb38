"""Many callers of one unique key at once, over many connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random

from api_shared.client.kiq import Accepted, accept
from api_shared.client.options import KiqOptions, UniqueFor
from api_shared.client.runtime import Runtime
from api_shared.client.submission import Submission
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.workers.load import nap

CALLERS = 100
SERVICES = 10
"""Services that kiq: callers of one service share a batch, and race with those of the others."""

SCOPES: tuple[UniqueFor, ...] = ("waiting", "open", timedelta(days=1))


async def run(size: int, rng: Random, env: Environment) -> Report:
    args = nap.contract.parse((str(env.folder), 0.0), {})
    async with AsyncExitStack() as stack:
        runtime = env.broker.runtime
        services = [await stack.enter_async_context(_service(runtime)) for _ in range(SERVICES)]

        async def race(key: str, unique_for: UniqueFor) -> list[Accepted]:
            options = KiqOptions(unique_key=key, unique_for=unique_for)
            asked = Submission(nap.contract, args, options)
            callers = [services[number % SERVICES] for number in range(CALLERS)]
            rng.shuffle(callers)
            return await asyncio.gather(*(accept(asked, caller) for caller in callers))

        # No worker runs yet: a job that has ended frees its key, as it must.
        for number in range(size):
            accepted = await race(f"race-{number}", SCOPES[number % len(SCOPES)])
            jobs = {each.job.id for each in accepted}
            new = sum(not each.deduplicated for each in accepted)
            env.check(
                (len(jobs), new) == (1, 1), f"race {number}: {len(jobs)} jobs, {new} called new"
            )
            env.accepted |= jobs
            env.say(f"race {number}: {new} of {CALLERS} callers made the job")
        await env.worker()
        await env.drain()
        for number, unique_for in enumerate(SCOPES[:size]):
            [first, *_] = await race(f"race-{number}", unique_for)
            is_free = first.job.id not in env.accepted
            is_period = isinstance(unique_for, timedelta)
            env.check(is_free is not is_period, f"after its end: key free {is_free}, {unique_for}")
            env.accepted.add(first.job.id)
        await env.drain()
    return await env.report(races=size, callers=CALLERS)


@asynccontextmanager
async def _service(runtime: Runtime) -> AsyncIterator[Runtime]:
    """Another service, with a connection of its own to the ledger."""
    ledger = MongoLedger(runtime.settings)
    await ledger.start()
    try:
        yield replace(runtime, ledger=ledger)
    finally:
        await ledger.close()


SCENARIO = Scenario(
    name="unique-races",
    fault=f"{CALLERS} callers of {SERVICES} services kiq one unique key at once",
    holds="one job a key",
    small=12,
    full=200,
    run=run,
)
