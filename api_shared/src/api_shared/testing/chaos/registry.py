"""All scenarios by name. A module of `scenarios/` has a `SCENARIO`, or several as `SCENARIOS`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pkgutil import walk_packages

from api_shared.errors import UsageError
from api_shared.testing.chaos import scenarios
from api_shared.testing.chaos.scenario import Scenario


class UnknownScenario(UsageError):
    """There is no scenario of this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        super().__init__(f"no scenario named {name!r}; known: {', '.join(known)}")


@cache
def all_scenarios() -> dict[str, Scenario]:
    """In alphabetical order: names begin with what breaks."""
    found: list[Scenario] = []
    for module in walk_packages(scenarios.__path__, f"{scenarios.__name__}."):
        if not module.ispkg:
            loaded = import_module(module.name)
            found += getattr(loaded, "SCENARIOS", None) or [loaded.SCENARIO]
    return {scenario.name: scenario for scenario in sorted(found, key=lambda each: each.name)}


def scenario_named(name: str) -> Scenario:
    """Raises `UnknownScenario`."""
    if name not in all_scenarios():
        raise UnknownScenario(name, list(all_scenarios()))
    return all_scenarios()[name]
