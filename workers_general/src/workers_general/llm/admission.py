"""
Who may call a server now: its gate, its places and its rate.

A gate that a server closed (429, Retry-After) opens for one call at first, and for twice as many
after each that went well: those who waited do not all come at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Protocol

SHORTEST_S = 1.0
"""A gate stays closed at least so long: whoever waits there spends no attempt."""

FIRST_CLOSED_S = 2.0
"""How long a gate closes where the server did not say; doubled each time until a call goes well."""

RAMP_S = 600.0
"""How long after its opening a gate lets only few through, while no call goes well."""


class Why(StrEnum):
    GATE = "gate"
    PLACES = "places"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class NotNow:
    """`wait_s` 0: nobody knows when a place will be free."""

    why: Why
    wait_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one server; `lease_s`: how long a place is held that nobody keeps."""

    in_flight: int
    per_minute: int | None
    lease_s: float
    longest_closed_s: float


class Admission(Protocol):
    """One server's door, by the server's URL; `place` is a name that the caller makes up."""

    @property
    def limits(self) -> Limits: ...

    async def gate(self, server: str) -> NotNow | None:
        """None: it is open."""

    async def enter(self, server: str, place: str) -> NotNow | None:
        """None: come in, and `keep` the place until you `leave`."""

    async def keep(self, server: str, place: str) -> None:
        """The place is still in use; one that was given up as abandoned is not taken back."""

    async def leave(self, server: str, place: str, *, went_well: bool) -> None:
        """A call that ends while the gate is closed began before: it opens nothing."""

    async def close_gate(self, server: str, retry_after_s: float | None) -> float:
        """Let nobody in for a while; how long, in seconds."""


@dataclass(slots=True)
class _Door:
    closed_until: float = 0.0
    next_at: float = 0.0
    ramp: int | None = None
    ramp_until: float = 0.0
    strikes: int = 0
    places: dict[str, float] = field(default_factory=dict)


class LocalAdmission:
    """For one process; `clock` is in seconds."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._doors: dict[str, _Door] = {}

    async def gate(self, server: str) -> NotNow | None:
        wait_s = self._doors.setdefault(server, _Door()).closed_until - self._clock()
        return NotNow(Why.GATE, wait_s) if wait_s > 0 else None

    async def enter(self, server: str, place: str) -> NotNow | None:
        if closed := await self.gate(server):
            return closed
        now, door = self._clock(), self._doors[server]
        door.places = {name: until for name, until in door.places.items() if until > now}
        ramp = door.ramp if door.ramp is not None and door.ramp_until > now else None
        most = self.limits.in_flight if ramp is None else min(ramp, self.limits.in_flight)
        if len(door.places) >= most:
            return NotNow(Why.PLACES, 0)
        if self.limits.per_minute is not None:
            if door.next_at > now:
                return NotNow(Why.RATE, door.next_at - now)
            door.next_at = now + 60 / self.limits.per_minute
        door.places[place] = now + self.limits.lease_s
        return None

    async def keep(self, server: str, place: str) -> None:
        places = self._doors.setdefault(server, _Door()).places
        if place in places:
            places[place] = self._clock() + self.limits.lease_s

    async def leave(self, server: str, place: str, *, went_well: bool) -> None:
        door = self._doors.setdefault(server, _Door())
        door.places.pop(place, None)
        if went_well and door.closed_until <= self._clock():
            door.strikes = 0
            if door.ramp is not None:
                door.ramp *= 2
                if door.ramp >= self.limits.in_flight:
                    door.ramp = None

    async def close_gate(self, server: str, retry_after_s: float | None) -> float:
        now, door = self._clock(), self._doors.setdefault(server, _Door())
        if door.closed_until <= now:
            door.strikes += 1
        wait_s = closed_s(retry_after_s, door.strikes, self.limits.longest_closed_s)
        door.closed_until = max(door.closed_until, now + wait_s)
        door.ramp, door.ramp_until = 1, door.closed_until + RAMP_S
        return door.closed_until - now


def closed_s(retry_after_s: float | None, strikes: int, longest_s: float) -> float:
    """Seconds that a gate closes for: as the server said, else doubling; within bounds."""
    said_s = (
        FIRST_CLOSED_S * 2.0 ** min(strikes - 1, 20) if retry_after_s is None else retry_after_s
    )
    return min(max(said_s, SHORTEST_S), max(longest_s, SHORTEST_S))
