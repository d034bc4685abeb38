"""What a network does to the connection between a worker and each of its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Run, Scenario
from api_shared.testing.chaos.waiting import NotInTime, until
from api_shared.testing.chaos.worker_process import WorkerProcess

CUTS = 3
DELAY_S = 0.3
NOTICED_S = 30.0
"""A generous deadline for the machine; the time itself is printed."""
UP_S = 120.0
NAP_S = 0.5


@dataclass(frozen=True, slots=True)
class Connection:
    """
    One server, the variable that names it, and what a worker logs when it is away; `back` is what
    it logs when the other is said no more than once.
    """

    server: str
    variable: str
    words: tuple[str, ...]
    back: str | None = None

    def is_up(self, log: str) -> bool:
        """Whether a worker with this log would say that the server is away."""
        return self.back is None or log.rfind(self.back) >= max(map(log.rfind, self.words))


LINKS = (
    Connection("rabbitmq", "RABBITMQ_URL", ("rabbitmq.lost",), "rabbitmq.connected"),
    Connection("mongodb", "MONGODB_URL", ("heartbeat.failed", "ledger_away", "ledger.away")),
    Connection("redis", "REDIS_URL", ("notifier.unreachable",), "notifier.reachable"),
)


async def run(connection: Connection, size: int, rng: Random, ground: Environment) -> Report:
    """One worker behind the proxy, one that is not: what the first cannot do, the second does."""
    proxy = await ground.proxy(getattr(ground.services, connection.server))
    url = proxy.url(ground.env[connection.variable])
    if connection.server == "mongodb":
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
    behind = await ground.worker("--max-async-tasks", "10", env={connection.variable: url})
    await ground.worker("--max-async-tasks", "10")
    load = asyncio.create_task(ground.naps(size, NAP_S, per_second=15))

    await ground.until_kiqed(size // 6)
    for _ in range(CUTS):
        proxy.cut()
        await _goes_on(size, ground)
    ground.say(f"cut {CUTS} times")

    proxy.delay_s = DELAY_S
    await ground.until_kiqed(size // 3)
    await _goes_on(size, ground)
    proxy.delay_s = 0.0
    ground.say(f"answers were {DELAY_S:g} s late")

    await ground.until_kiqed(size // 2)
    await until(lambda: connection.is_up(behind.log), UP_S, f"{connection.server} is there again")
    noticed_s = await _noticed(connection, behind, proxy.black_hole)
    ground.check(
        noticed_s is not None, f"the worker did not notice that {connection.server} is silent"
    )
    await _goes_on(size, ground)
    proxy.heal()
    ground.say("black hole healed")

    await load
    await ground.drain()
    return await ground.report(noticed_s=round(noticed_s or -1.0, 1))


async def _noticed(
    connection: Connection, worker: WorkerProcess, break_it: Callable[[], None]
) -> float | None:
    """Seconds until the worker says that the server is away; None: it never does."""
    clock = asyncio.get_running_loop().time
    seen = len(worker.log)
    break_it()
    began = clock()
    try:
        await until(lambda: any(word in worker.log[seen:] for word in connection.words), NOTICED_S)
    except NotInTime:
        return None
    return clock() - began


async def _goes_on(size: int, ground: Environment) -> None:
    """Jobs still end, through whomever; on a slow machine all may have by now."""
    await ground.until_ended(min(size, await ground.ended() + 3))


def _of(connection: Connection) -> Run:
    bound: Callable[[int, Random, Environment], Awaitable[Report]] = partial(run, connection)
    return bound


SCENARIOS = tuple(
    Scenario(
        name=f"network-{connection.server}",
        fault=(
            f"cut, {DELAY_S * 1000:g} ms delay and black hole between a worker "
            f"and {connection.server}"
        ),
        holds="no silent hang; no job runs twice side by side in one process",
        small=150,
        full=600,
        run=_of(connection),
    )
    for connection in LINKS
)
