"""A scenario: one fault, its sizes, and what must hold under it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api_shared.testing.chaos.environment import Environment
    from api_shared.testing.chaos.report import Report

Run = Callable[[int, Random, "Environment"], Awaitable["Report"]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    `name` is what a person types: words with hyphens, beginning with what breaks.

    `run` gets the size (how many jobs, or whatever `small` and `full` count), randomness from the
    printed seed, and an environment of its own; it breaks things, heals them and reports. What it
    raises is a finding too. `mongodb_nodes`: how many its replica set has.
    """

    name: str
    fault: str
    holds: str
    small: int
    full: int
    run: Run
    mongodb_nodes: int = 1
