"""Admission of calls to model servers that all workers share, through Redis."""

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
from workers_general.llm.limits.admission import (
    FIRST_CLOSED_S,
    MIN_CLOSED_S,
    RAMP_S,
    Admission,
    Limits,
    LocalAdmission,
    Refusal,
    RefusalReason,
)

log = structlog.get_logger()
T = TypeVar("T")

DEADLINE_S = 1.0
AWAY_S = 2.0
"""How long Redis is not asked after it did not answer."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_GATE = "return redis.call('PTTL', KEYS[1])"
_ACQUIRE = (
    _NOW
    + """
local gate, slots, next_at, ramp = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local slot, limit, interval, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local closed = redis.call('PTTL', gate)
if closed > 0 then return {'gate', closed} end
redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
limit = math.min(limit, tonumber(redis.call('GET', ramp) or limit))
if redis.call('ZCARD', slots) >= limit then return {'slots', 0} end
if interval > 0 then
  local at = tonumber(redis.call('GET', next_at) or now)
  if at > now then return {'rate', at - now} end
  redis.call('SET', next_at, now + interval, 'PX', interval)
end
redis.call('ZADD', slots, now + lease, slot)
redis.call('PEXPIRE', slots, lease * 2)
return {'', 0}
"""
)
_RENEW = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
"""
)
_RELEASE = """
local gate, slots, ramp, strikes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
redis.call('ZREM', slots, ARGV[1])
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
local wait, first, min_closed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local max_closed, ramp_for = tonumber(ARGV[4]), tonumber(ARGV[5])
local closed = redis.call('PTTL', gate)
local count = tonumber(redis.call('GET', strikes) or 0)
if closed <= 0 then
  count = redis.call('INCR', strikes)
  redis.call('PEXPIRE', strikes, ramp_for)
end
if wait < 0 then wait = first * 2 ^ math.min(math.max(count, 1) - 1, 20) end
wait = math.floor(math.min(math.max(wait, min_closed), math.max(max_closed, min_closed)))
if wait > closed then
  redis.call('SET', gate, 1, 'PX', wait)
  closed = wait
end
redis.call('SET', ramp, 1, 'PX', closed + ramp_for)
return closed
"""


class SharedAdmission(Admission):
    """
    Each decision is one script, so that it is atomic for all workers, and goes by Redis's clock.

    The slots of a worker that is killed become free when their leases expire. While Redis is away
    this process decides alone: no job fails for that, and the limits hold for each process.
    """

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self.limits = limits
        self._prefix = settings.redis_prefix
        self._local = LocalAdmission(limits)
        self.lines = self._local.lines
        self._local_slots: set[str] = set()
        self._away_until = 0.0
        self._away = False
        self._pool = BlockingConnectionPool.from_url(
            settings.redis_address, max_connections=16, **pool_options()
        )
        redis = Redis(connection_pool=self._pool)
        self._gate = redis.register_script(_GATE)
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._close = redis.register_script(_CLOSE)

    async def aclose(self) -> None:
        await self._pool.disconnect()

    async def check_gate(self, server: str) -> Refusal | None:
        closed_ms = await self._run(self._gate, self._keys(server, "gate"), [])
        if closed_ms is None:
            return await self._local.check_gate(server)
        return Refusal(RefusalReason.GATE, closed_ms / 1000) if closed_ms > 0 else None

    async def acquire(self, server: str, slot: str) -> Refusal | None:
        per_minute = self.limits.per_minute
        interval_ms = 0 if per_minute is None else max(1, round(60_000 / per_minute))
        keys = self._keys(server, "gate", "places", "next", "ramp")
        lease_ms = _ms(self.limits.lease_s)
        answer = await self._run(
            self._acquire, keys, [slot, self.limits.in_flight, interval_ms, lease_ms]
        )
        if answer is None:
            self._local_slots.add(slot)
            refusal = await self._local.acquire(server, slot)
            if refusal is not None:
                self._local_slots.discard(slot)
            return refusal
        reason, wait_ms = answer
        return Refusal(RefusalReason(reason.decode()), wait_ms / 1000) if reason else None

    async def renew(self, server: str, slot: str) -> None:
        if slot in self._local_slots:
            await self._local.renew(server, slot)
        else:
            lease_ms = _ms(self.limits.lease_s)
            await self._run(self._renew, self._keys(server, "places"), [slot, lease_ms])

    async def release(self, server: str, slot: str, *, succeeded: bool) -> None:
        # For every call: each close_gate also closes the local gate, whose strikes must be reset.
        await self._local.release(server, slot, succeeded=succeeded)
        if slot in self._local_slots:
            self._local_slots.discard(slot)
        else:
            keys = self._keys(server, "gate", "places", "ramp", "strikes")
            await self._run(self._release, keys, [slot, int(succeeded), self.limits.in_flight])

    async def close_gate(self, server: str, retry_after_s: float | None) -> float:
        local_s = await self._local.close_gate(server, retry_after_s)
        wait_ms = -1 if retry_after_s is None else _ms(min(retry_after_s, 1e6))
        bounds = [FIRST_CLOSED_S, MIN_CLOSED_S, self.limits.max_closed_s, RAMP_S]
        closed_ms = await self._run(
            self._close,
            self._keys(server, "gate", "ramp", "strikes"),
            [wait_ms, *map(_ms, bounds)],
        )
        return local_s if closed_ms is None else closed_ms / 1000

    def _keys(self, server: str, *names: str) -> list[str]:
        """The hash is in braces, so that all keys of a server are in one slot of a cluster."""
        tag = hashlib.sha256(server.encode()).hexdigest()[:16]
        return [f"{self._prefix}:llm:{{{tag}}}:{name}" for name in names]

    async def _run(self, script: AsyncScript, keys: list[str], args: list[Any]) -> Any:
        """The result of the script (0 if it returns nothing); None while Redis is away."""
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
