"""Every row of `kiq chaos` at its small size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api_shared.testing.chaos.registry import row, rows
from api_shared.testing.chaos.run import ServersOfRows, run_row, servers_of_rows

SEED = 20_260_101


@pytest.fixture(scope="module")
def servers() -> Iterator[ServersOfRows]:
    """The rows break them: they are nobody else's."""
    with servers_of_rows(print) as started:
        yield started


@pytest.mark.parametrize("name", list(rows()))
async def test_a_row_holds_at_its_small_size(
    name: str, servers: ServersOfRows, tmp_path: Path
) -> None:
    scenario = row(name)
    services = servers.of(scenario)
    result = await run_row(scenario, scenario.small, SEED, services, tmp_path, print)
    report = result.report
    assert report.findings == (), "\n".join(report.findings)
    assert report.audit.findings == ()
    assert (report.audit.lost, report.audit.ended_twice, report.audit.open) == (0, 0, 0)
    assert report.audit.accepted > 0
    assert report.holds
