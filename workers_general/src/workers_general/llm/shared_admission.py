"""Admission to the model servers that all workers share through Redis."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from time import monotonic
from typing import Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from api_shared.notifier.redis.notifier import pool_options
from api_shared.settings import Settings
from workers_general.llm.admission import (
    FIRST_CLOSED_S,
    RAMP_S,
    SHORTEST_S,
    Limits,
    LocalAdmission,
    NotNow,
    Why,
)

log = structlog.get_logger()
T = TypeVar("T")

DEADLINE_S = 1.0
AWAY_S = 2.0
"""How long Redis is left alone after it did not answer."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_GATE = "return redis.call('PTTL', KEYS[1])"
_ENTER = (
    _NOW
    + """
local gate, places, next_at, ramp = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local place, most, interval, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local closed = redis.call('PTTL', gate)
if closed > 0 then return {'gate', closed} end
redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
most = math.min(most, tonumber(redis.call('GET', ramp) or most))
if redis.call('ZCARD', places) >= most then return {'places', 0} end
if interval > 0 then
  local at = tonumber(redis.call('GET', next_at) or now)
  if at > now then return {'rate', at - now} end
  redis.call('SET', next_at, now + interval, 'PX', interval)
end
redis.call('ZADD', places, now + lease, place)
redis.call('PEXPIRE', places, lease * 2)
return {'', 0}
"""
)
_KEEP = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
"""
)
_LEAVE = """
local gate, places, ramp, strikes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
redis.call('ZREM', places, ARGV[1])
if ARGV[2] == '1' and redis.call('PTTL', gate) <= 0 then
  redis.call('DEL', strikes)
  local now_at = tonumber(redis.call('GET', ramp) or 0)
  if now_at > 0 then
    if now_at * 2 >= tonumber(ARGV[3]) then redis.call('DEL', ramp)
    else redis.call('SET', ramp, now_at * 2, 'KEEPTTL') end
  end
end
"""
_CLOSE = """
local gate, ramp, strikes = KEYS[1], KEYS[2], KEYS[3]
local wait, first, shortest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local longest, ramp_for = tonumber(ARGV[4]), tonumber(ARGV[5])
local closed = redis.call('PTTL', gate)
local count = tonumber(redis.call('GET', strikes) or 0)
if closed <= 0 then
  count = redis.call('INCR', strikes)
  redis.call('PEXPIRE', strikes, ramp_for)
end
if wait < 0 then wait = first * 2 ^ math.min(math.max(count, 1) - 1, 20) end
wait = math.floor(math.min(math.max(wait, shortest), math.max(longest, shortest)))
if wait > closed then
  redis.call('SET', gate, 1, 'PX', wait)
  closed = wait
end
redis.call('SET', ramp, 1, 'PX', closed + ramp_for)
return closed
"""


class SharedAdmission:
    """
    Each answer is one script, so it is decided at once for all workers, by Redis's clock.

    What a worker that is killed held becomes free when its lease has run out. Without Redis a call
    is decided by this process alone: no job fails for it, and the limits hold for each process.
    """

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self.limits = limits
        self._prefix = settings.redis_prefix
        self._local = LocalAdmission(limits)
        self._local_places: set[str] = set()
        self._away_until = 0.0
        self._away = False
        self._pool = BlockingConnectionPool.from_url(
            settings.redis_address, max_connections=16, **pool_options()
        )
        redis = Redis(connection_pool=self._pool)
        self._gate = redis.register_script(_GATE)
        self._enter = redis.register_script(_ENTER)
        self._keep = redis.register_script(_KEEP)
        self._leave = redis.register_script(_LEAVE)
        self._close = redis.register_script(_CLOSE)

    async def aclose(self) -> None:
        await self._pool.disconnect()

    async def gate(self, server: str) -> NotNow | None:
        closed_ms = await self._run(self._gate, self._keys(server, "gate"), [])
        if closed_ms is None:
            return await self._local.gate(server)
        return NotNow(Why.GATE, closed_ms / 1000) if closed_ms > 0 else None

    async def enter(self, server: str, place: str) -> NotNow | None:
        per_minute = self.limits.per_minute
        interval_ms = 0 if per_minute is None else max(1, round(60_000 / per_minute))
        keys = self._keys(server, "gate", "places", "next", "ramp")
        lease_ms = _ms(self.limits.lease_s)
        answer = await self._run(
            self._enter, keys, [place, self.limits.in_flight, interval_ms, lease_ms]
        )
        if answer is None:
            self._local_places.add(place)
            refused = await self._local.enter(server, place)
            if refused is not None:
                self._local_places.discard(place)
            return refused
        why, wait_ms = answer
        return NotNow(Why(why.decode()), wait_ms / 1000) if why else None

    async def keep(self, server: str, place: str) -> None:
        if place in self._local_places:
            await self._local.keep(server, place)
        else:
            lease_ms = _ms(self.limits.lease_s)
            await self._run(self._keep, self._keys(server, "places"), [place, lease_ms])

    async def leave(self, server: str, place: str, *, went_well: bool) -> None:
        # Of every call: its own door, which each closing closes too, must not count on for ever.
        await self._local.leave(server, place, went_well=went_well)
        if place in self._local_places:
            self._local_places.discard(place)
        else:
            keys = self._keys(server, "gate", "places", "ramp", "strikes")
            await self._run(self._leave, keys, [place, int(went_well), self.limits.in_flight])

    async def close_gate(self, server: str, retry_after_s: float | None) -> float:
        here_s = await self._local.close_gate(server, retry_after_s)
        wait_ms = -1 if retry_after_s is None else _ms(min(retry_after_s, 1e6))
        bounds = [FIRST_CLOSED_S, SHORTEST_S, self.limits.longest_closed_s, RAMP_S]
        closed_ms = await self._run(
            self._close,
            self._keys(server, "gate", "ramp", "strikes"),
            [wait_ms, *map(_ms, bounds)],
        )
        return here_s if closed_ms is None else closed_ms / 1000

    def _keys(self, server: str, *names: str) -> list[str]:
        """In braces: all keys of a server lie in one slot of a cluster."""
        door = hashlib.sha256(server.encode()).hexdigest()[:16]
        return [f"{self._prefix}:llm:{{{door}}}:{name}" for name in names]

    async def _run(self, script: AsyncScript, keys: list[str], args: list[Any]) -> Any:
        """The script's answer; None while Redis is away (a script that says nothing: 0)."""
        if monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await _awaited(script(keys=keys, args=args))
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = monotonic() + AWAY_S
            if not self._away:
                self._away = True
                log.warning("llm.limits_local", error=f"{type(error).__name__}: {error}"[:200])
            return None
        if self._away:
            self._away = False
            log.info("llm.limits_shared")
        return 0 if answer is None else answer


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
