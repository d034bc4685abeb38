"""Runs of scenarios: each in a clean environment, from a printed seed, to a result."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from api_shared.ledger.audit import Audit
from api_shared.testing.chaos.environment import environment_on
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.servers import Services, running_servers

Say = Callable[[str], None]
SCENARIO_S = 1200.0
"""A scenario that takes longer hangs; the longest take a few minutes."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a scenario. `took_s` is from a clean environment to the last count."""

    scenario: Scenario
    size: int
    seed: int
    report: Report
    took_s: float


class ScenarioServers:
    """Private servers, started when a scenario first needs them and kept for the next."""

    def __init__(self, say: Say, held: ExitStack) -> None:
        self._say = say
        self._held = held
        self._sets: dict[int, Services] = {}

    def of(self, scenario: Scenario) -> Services:
        """Raises `ServiceUnavailable`."""
        nodes = scenario.mongodb_nodes
        if nodes not in self._sets:
            self._sets[nodes] = self._start(nodes)
        return self._sets[nodes]

    def _start(self, nodes: int) -> Services:
        """Its own MongoDB for each number of nodes; RabbitMQ and Redis are the same for all."""
        names = ["mongodb"] if self._sets else ["rabbitmq", "mongodb", "redis"]
        started = self._held.enter_context(
            running_servers(on_step=self._say, only=names, env={}, mongodb_nodes=nodes)
        )
        shared = next(iter(self._sets.values()), started)
        return Services({**shared.servers, **started.servers}, None)


@contextmanager
def scenario_servers(say: Say) -> Iterator[ScenarioServers]:
    """All that was started ends with the block."""
    with ExitStack() as held:
        yield ScenarioServers(say, held)


async def run_scenario(
    scenario: Scenario, size: int, seed: int, services: Services, folder: Path, say: Say
) -> Result:
    """Run one scenario. What it raises is a finding, with its traceback."""
    began = time.monotonic()
    rng = Random(f"{scenario.name} {seed}")  # noqa: S311 - a seed repeats a run
    try:
        async with environment_on(services, folder, say=say) as env, asyncio.timeout(SCENARIO_S):
            report = await scenario.run(size, rng, env)
    except Exception:
        report = Report(Audit(), (f"the scenario did not end:\n{traceback.format_exc()}",))
    return Result(scenario, size, seed, report, time.monotonic() - began)


def run_scenarios(
    scenarios: list[tuple[Scenario, int]], seed: int, say: Say, done: Callable[[Result], None]
) -> list[Result]:
    """Run scenarios one after the other; `done` gets each result. Files of a failed one stay."""
    results = []
    with scenario_servers(say) as servers:
        for scenario, size in scenarios:
            say(f"{scenario.name}: {scenario.fault} ({size:,})")
            folder = Path(tempfile.mkdtemp(prefix=f"chaos-{scenario.name}-"))
            services = servers.of(scenario)
            result = asyncio.run(run_scenario(scenario, size, seed, services, folder, say))
            if result.report.holds:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                say(f"{scenario.name} did not hold; workers' logs are in {folder}")
            results.append(result)
            done(result)
    return results
