"""
Admission of calls to a model server: its gate, its slots and its rate.

A gate that a server has closed (429, Retry-After) opens for one call at first, and for twice as
many after each call that succeeds, so that the calls that waited do not all come at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Protocol

MIN_CLOSED_S = 1.0
"""A gate stays closed at least this long: a job that waits for it spends no attempt."""

FIRST_CLOSED_S = 2.0
"""How long a gate closes if the server did not say; doubled each time until a call succeeds."""

RAMP_S = 600.0
"""How long after it has opened a gate admits only few calls, unless calls succeed."""


class RefusalReason(StrEnum):
    GATE = "gate"
    SLOTS = "slots"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`wait_s` is 0 if it is not known when a slot will be free."""

    reason: RefusalReason
    wait_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server. A slot that is not renewed is free again after `lease_s`."""

    in_flight: int
    per_minute: int | None
    lease_s: float
    max_closed_s: float


class Admission(Protocol):
    """The limits of servers, each named by its URL. `slot` is a name that the caller makes up."""

    limits: Limits
    lines: Mapping[str, asyncio.Lock]
    """By server: where the calls of this process wait for their turn to ask for a slot."""

    async def check_gate(self, server: str) -> Refusal | None:
        """None if the gate is open."""

    async def acquire(self, server: str, slot: str) -> Refusal | None:
        """None if the slot was acquired: `renew` it until you `release` it."""

    async def renew(self, server: str, slot: str) -> None:
        """Extend the lease of a slot; a slot that has been given to others is not taken back."""

    async def release(self, server: str, slot: str, *, succeeded: bool) -> None:
        """A call that ends while the gate is closed began before: it does not open the gate."""

    async def close_gate(self, server: str, retry_after_s: float | None) -> float:
        """Refuse all calls for some time; returns how long, in seconds."""


@dataclass(slots=True)
class _ServerState:
    closed_until: float = 0.0
    next_at: float = 0.0
    ramp: int | None = None
    ramp_until: float = 0.0
    strikes: int = 0
    slots: dict[str, float] = field(default_factory=dict)


class LocalAdmission(Admission):
    """Admission for one process. `clock` is in seconds."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self.lines = defaultdict(asyncio.Lock)
        self._clock = clock
        self._servers: dict[str, _ServerState] = {}

    async def check_gate(self, server: str) -> Refusal | None:
        wait_s = self._state(server).closed_until - self._clock()
        return Refusal(RefusalReason.GATE, wait_s) if wait_s > 0 else None

    async def acquire(self, server: str, slot: str) -> Refusal | None:
        if closed := await self.check_gate(server):
            return closed
        now, state = self._clock(), self._state(server)
        state.slots = {name: until for name, until in state.slots.items() if until > now}
        limit = self.limits.in_flight
        if state.ramp is not None and state.ramp_until > now:
            limit = min(state.ramp, limit)
        if len(state.slots) >= limit:
            return Refusal(RefusalReason.SLOTS, 0)
        if self.limits.per_minute is not None:
            if state.next_at > now:
                return Refusal(RefusalReason.RATE, state.next_at - now)
            state.next_at = now + 60 / self.limits.per_minute
        state.slots[slot] = now + self.limits.lease_s
        return None

    async def renew(self, server: str, slot: str) -> None:
        slots = self._state(server).slots
        if slot in slots:
            slots[slot] = self._clock() + self.limits.lease_s

    async def release(self, server: str, slot: str, *, succeeded: bool) -> None:
        state = self._state(server)
        state.slots.pop(slot, None)
        if succeeded and state.closed_until <= self._clock():
            state.strikes = 0
            if state.ramp is not None:
                state.ramp *= 2
                if state.ramp >= self.limits.in_flight:
                    state.ramp = None

    async def close_gate(self, server: str, retry_after_s: float | None) -> float:
        now, state = self._clock(), self._state(server)
        left_s = state.closed_until - now
        if left_s <= 0:
            state.strikes += 1
        wait_s = gate_closed_s(retry_after_s, state.strikes, self.limits.max_closed_s)
        if wait_s > left_s:
            state.closed_until, left_s = now + wait_s, wait_s
        state.ramp, state.ramp_until = 1, state.closed_until + RAMP_S
        return left_s

    def _state(self, server: str) -> _ServerState:
        return self._servers.setdefault(server, _ServerState())


def gate_closed_s(retry_after_s: float | None, strikes: int, max_s: float) -> float:
    """
    How many seconds a gate closes: as the server said, or doubling with each of `strikes`.

    It is at least `MIN_CLOSED_S`, and at most `max_s`.
    """
    if retry_after_s is None:
        retry_after_s = FIRST_CLOSED_S * 2.0 ** min(strikes - 1, 20)
    return min(max(retry_after_s, MIN_CLOSED_S), max(max_s, MIN_CLOSED_S))
