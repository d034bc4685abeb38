"""The text of a job in Redis: a stream that holds the text of its highest claim."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from api_shared.notifier.protocol import TextSubscription
from api_shared.notifier.redis.keys import Keys
from api_shared.notifier.subscription import QueuedSubscription
from api_shared.notifier.text_stream import Outgoing, Written

READ_DEADLINE_S = 2.0
PAGE = 500

_APPEND = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local written_by = last and tonumber(last[2][2]) or 0
local claim_no = tonumber(ARGV[1])
if written_by > claim_no then return 0 end
if written_by < claim_no then redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) end
redis.call('XADD', KEYS[1], '*', 'claim_no', ARGV[1], 'offset', ARGV[2], 'text', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], 'more')
return 1
"""
"""
A script, so that the server itself refuses a worker that has lost its claim, and keeps the text of
one claim only. `XTRIM`, because after a `DEL` new ids could be below those that were read.
"""

Command = tuple[str | bytes | int, ...]


def append_command(keys: Keys, outgoing: Outgoing, written: Written, *, ttl_ms: int) -> Command:
    return (
        "EVAL", _APPEND, 1, keys.text(outgoing.job_id).encode(),
        written.claim_no, written.offset, written.text.encode(), ttl_ms,
        keys.text_news(outgoing.job_id).encode(),
    )  # fmt: skip


class TextReader(TextSubscription):
    """A reader of the stream that goes on from its place. The subscription announces more text."""

    def __init__(self, redis: Redis, key: str, subscription: QueuedSubscription[str]) -> None:
        self._redis = redis
        self._key = key
        self._subscription = subscription
        self._last_id = "-"

    async def next(self, timeout_s: float) -> list[Written]:
        await self._subscription.next(timeout_s)
        found: list[Written] = []
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                while page := await self._page():
                    found += page
        except Exception:  # noqa: S110 - whatever the client raises: the ledger has the text
            pass
        return found

    def wake(self) -> None:
        self._subscription.lose()

    async def _page(self) -> list[Written]:
        entries: Any = await self._redis.xrange(self._key, min=self._last_id, count=PAGE)
        if entries:
            self._last_id = f"({entries[-1][0].decode()}"
        return [written for _, fields in entries if (written := _written(fields)) is not None]


def _written(fields: dict[bytes, bytes]) -> Written | None:
    """The stretch of an entry; None for entries that are not ours."""
    try:
        numbers = int(fields[b"claim_no"]), int(fields[b"offset"])
        return Written(*numbers, fields[b"text"].decode())
    except (KeyError, ValueError):
        return None
