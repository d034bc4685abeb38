"""Every row of `kiq chaos` at its small size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api_shared.testing.chaos.registry import all_scenarios, scenario_named
from api_shared.testing.chaos.run import ScenarioServers, run_scenario, scenario_servers

SEED = 20_260_101


@pytest.fixture(scope="module")
def servers() -> Iterator[ScenarioServers]:
    """The rows break them: they are nobody else's."""
    with scenario_servers(print) as started:
        yield started


@pytest.mark.parametrize("name", list(all_scenarios()))
async def test_a_row_holds_at_its_small_size(
    name: str, servers: ScenarioServers, tmp_path: Path
) -> None:
    scenario = scenario_named(name)
    services = servers.of(scenario)
    result = await run_scenario(scenario, scenario.small, SEED, services, tmp_path, print)
    report = result.report
    assert report.findings == (), "\n".join(report.findings)
    assert report.audit.findings == ()
    assert (report.audit.lost, report.audit.ended_twice, report.audit.open) == (0, 0, 0)
    assert report.audit.accepted > 0
    assert report.holds
