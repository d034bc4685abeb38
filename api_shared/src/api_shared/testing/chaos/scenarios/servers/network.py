"""Faults of the network between a worker and each of its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Run, Scenario
from api_shared.testing.chaos.worker_process import WorkerProcess
from api_shared.testing.waiting import NotInTime, until

CUTS = 3
DELAY_S = 0.3
NOTICED_S = 30.0
"""A deadline that a slow machine keeps too; the time itself is printed."""
UP_S = 120.0
NAP_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """
    One server, the variable that names it, and what a worker logs when it is away. `back` is what
    the worker logs when it is there again, where it logs each outage once.
    """

    server: str
    variable: str
    words: tuple[str, ...]
    back: str | None = None

    def is_up(self, log: str) -> bool:
        """Whether a worker with this log would log that the server is away."""
        return self.back is None or log.rfind(self.back) >= max(map(log.rfind, self.words))


TARGETS = (
    Target("rabbitmq", "RABBITMQ_URL", ("rabbitmq.lost",), "rabbitmq.connected"),
    Target("mongodb", "MONGODB_URL", ("heartbeat.failed", "ledger_away", "ledger.away")),
    Target("redis", "REDIS_URL", ("notifier.unreachable",), "notifier.reachable"),
)


async def run(target: Target, size: int, rng: Random, env: Environment) -> Report:
    """One worker is behind the proxy, another is not and does what the first cannot."""
    proxy = await env.proxy(getattr(env.services, target.server))
    url = proxy.url(env.variables[target.variable])
    if target.server == "mongodb":
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
    behind = await env.worker("--max-async-tasks", "10", variables={target.variable: url})
    await env.worker("--max-async-tasks", "10")
    load = asyncio.create_task(env.naps(size, NAP_S, per_second=15))

    await env.until_kiqed(size // 6)
    for _ in range(CUTS):
        proxy.cut()
        await _goes_on(size, env)
    env.say(f"cut {CUTS} times")

    proxy.delay_s = DELAY_S
    await env.until_kiqed(size // 3)
    await _goes_on(size, env)
    proxy.delay_s = 0.0
    env.say(f"answers were {DELAY_S:g} s late")

    await env.until_kiqed(size // 2)
    await until(lambda: target.is_up(behind.log), UP_S, f"{target.server} is there again")
    noticed_s = await _noticed(target, behind, proxy.black_hole)
    env.check(noticed_s is not None, f"the worker did not notice that {target.server} is silent")
    await _goes_on(size, env)
    proxy.heal()
    env.say("black hole healed")

    await load
    await env.drain()
    return await env.report(noticed_s=round(noticed_s or -1.0, 1))


async def _noticed(
    target: Target, worker: WorkerProcess, break_it: Callable[[], None]
) -> float | None:
    """Seconds until the worker logs that the server is away; None: it did not."""
    clock = asyncio.get_running_loop().time
    seen = len(worker.log)
    break_it()
    began = clock()
    try:
        await until(lambda: any(word in worker.log[seen:] for word in target.words), NOTICED_S)
    except NotInTime:
        return None
    return clock() - began


async def _goes_on(size: int, env: Environment) -> None:
    """Jobs still end, through either worker; on a slow machine all may have ended by now."""
    await env.until_ended(min(size, await env.ended() + 3))


def _of(target: Target) -> Run:
    bound: Callable[[int, Random, Environment], Awaitable[Report]] = partial(run, target)
    return bound


SCENARIOS = tuple(
    Scenario(
        name=f"network-{target.server}",
        fault=(
            f"cut, {DELAY_S * 1000:g} ms delay and black hole between a worker and {target.server}"
        ),
        holds="no silent hang; no job runs twice side by side in one process",
        small=150,
        full=600,
        run=_of(target),
    )
    for target in TARGETS
)
