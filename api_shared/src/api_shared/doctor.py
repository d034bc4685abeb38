"""Findings of the doctor: each says how bad it is and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The severity of a finding. `warn`: jobs run all the same. `away`: a server cannot be used."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Finding:
    area: str
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """A factory of findings in one area."""

    area: str

    def ok(self, text: str) -> Finding:
        return Finding(self.area, Level.OK, text)

    def warn(self, text: str, remedy: str) -> Finding:
        return Finding(self.area, Level.WARN, text, remedy)

    def bad(self, text: str, remedy: str) -> Finding:
        return Finding(self.area, Level.BAD, text, remedy)

    def away(self, text: str, remedy: str) -> Finding:
        return Finding(self.area, Level.AWAY, text, remedy)

    def version(self, name: str, version: str, oldest: tuple[int, int], where: str) -> Finding:
        """Whether a server that answers is one that is supported."""
        text = f"{name} {version} answers at {where}"
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers and numbers < oldest:
            supported = ".".join(map(str, oldest))
            return self.warn(text, f"the oldest supported version is {supported}: upgrade it")
        return self.ok(text)
