"""The queue of a subscription, with the items that its reader has not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from api_shared.notifier.bounded_queue import BoundedQueue
from api_shared.notifier.events import JobEvent

T = TypeVar("T")

UNREAD_LIMIT = 1000


class QueuedSubscription(Generic[T]):
    """
    A subscription that the owner of the connection fills, and one watcher reads.

    A gap is never hidden: if items may have been missed (the connection was lost, the reader was
    too slow), `next` returns None at once, and the reader reads the ledger.
    """

    def __init__(self, key: Callable[[T], str | None], *, limit: int = UNREAD_LIMIT) -> None:
        self._key = key
        self._unread: BoundedQueue[T] = BoundedQueue(limit)
        self._wake = asyncio.Event()
        self._has_gap = False

    def deliver(self, item: T) -> None:
        if self._unread.add(item, key=self._key(item)):
            self._has_gap = True
        self._wake.set()

    def lose(self) -> None:
        """Note that items may have been missed before the next one."""
        self._has_gap = True
        self._wake.set()

    async def next(self, timeout_s: float) -> T | None:
        """The next item. None after `timeout_s`, or at once if items may have been missed."""
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return None
        items = [] if self._has_gap else self._unread.take(1)
        self._has_gap = False
        if not self._unread:
            self._wake.clear()
        return items[0] if items else None

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            item = await self.next(timeout_s=3600)
            if item is not None:
                yield item


def latest_progress(event: JobEvent) -> str | None:
    """Keys by which only the latest progress of a job is kept, but each change of status."""
    return event.job_id if event.kind == "progress" else None


def one_is_enough(_news: object) -> str:
    """Keys by which one waiting notice is enough."""
    return "news"


def each_once(job_id: str) -> str:
    """Keys by which a waiting request is kept once."""
    return job_id
