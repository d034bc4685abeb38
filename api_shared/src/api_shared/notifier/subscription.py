"""A subscription's own queue: what its reader has not read yet."""

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
    Fed by whoever holds the connection, read by one watcher.

    A gap is never hidden: when something may have been missed (the connection was lost, the reader
    was too slow), `next` says None at once, and the reader looks into the ledger.
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
        """Something may have been missed before what is delivered from now on."""
        self._has_gap = True
        self._wake.set()

    async def next(self, timeout_s: float) -> T | None:
        """The next item, or None after `timeout_s` or, at once, when something was missed."""
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
    """Of a job's progress only the latest counts; every change of status does."""
    return event.job_id if event.kind == "progress" else None


def one_is_enough(_news: object) -> str:
    """That there is news need be known only once until somebody looks."""
    return "news"


def each_once(job_id: str) -> str:
    """A request that was not read yet need not be read twice."""
    return job_id
