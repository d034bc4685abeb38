"""Writes that MongoDB applies and whose answer never arrives."""

from __future__ import annotations

import asyncio
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.lost_answers import LostAnswers, Swallowed
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario

WORKERS = 2
SHARE = 0.3
"""Of all writes; the driver's own second try of a write has the same chance."""
AT_LEAST = 10
CALM = {"LEASE_S": "15", "HEARTBEAT_S": "4"}
"""Heartbeats lose answers too: no lease may run out for that, so that no job runs again."""
NAP_S = 0.2
PER_SECOND = 60.0


async def run(size: int, rng: Random, env: Environment) -> Report:
    """The service and both workers are behind the proxy, for all of the load."""
    proxy = await env.proxy(env.services.mongodb)
    url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
    for _ in range(WORKERS):
        await env.worker("--max-async-tasks", "20", variables={**CALM, "MONGODB_URL": url})
    await env.reopen(MONGODB_URL=url)
    swallowed = Swallowed()
    proxy.tap = lambda: LostAnswers(SHARE, rng, swallowed)
    proxy.cut()
    kiqs = asyncio.create_task(env.naps(size, NAP_S, per_second=PER_SECOND))
    await env.until_kiqed(size * 9 // 10)
    env.say(f"{swallowed.count} answers swallowed so far; healing")
    proxy.heal()
    proxy.cut()
    await kiqs
    await env.drain()
    env.check(swallowed.count >= AT_LEAST, f"only {swallowed.count} answers were swallowed")
    # A claim that had no answer for a whole lease is given up, and logged; its task did not run.
    given_up = sum(worker.log.count('"claim.ledger_away"') for worker in env.workers)
    report = await env.report(answers_lost=swallowed.count, claims_given_up=given_up)
    return report.checked(
        report.audit.ran_again <= given_up, "jobs ran again although their claims were not given up"
    )


SCENARIO = Scenario(
    name="mongodb-lost-answers",
    fault=f"MongoDB applies writes, the answers to {SHARE:.0%} of them are lost",
    holds="no loss, nothing in doubt stays so, no job twice unless its claim was given up",
    small=300,
    full=3_000,
    run=run,
)
