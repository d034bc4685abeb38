"""All rows, by name: each module of `scenarios/` has a `SCENARIO`, or several as `SCENARIOS`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from api_shared.errors import UsageError
from api_shared.testing.chaos import scenarios
from api_shared.testing.chaos.scenario import Scenario


class UnknownScenario(UsageError):
    """There is no row of this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        super().__init__(f"no row named {name!r}; known: {', '.join(known)}")


@cache
def rows() -> dict[str, Scenario]:
    """In alphabetical order: names begin with what breaks."""
    found: list[Scenario] = []
    for module in iter_modules(scenarios.__path__, f"{scenarios.__name__}."):
        loaded = import_module(module.name)
        found += getattr(loaded, "SCENARIOS", None) or [loaded.SCENARIO]
    return {scenario.name: scenario for scenario in sorted(found, key=lambda row: row.name)}


def row(name: str) -> Scenario:
    """Raises `UnknownScenario`."""
    if name not in rows():
        raise UnknownScenario(name, list(rows()))
    return rows()[name]
