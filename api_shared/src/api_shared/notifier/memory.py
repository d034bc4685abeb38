"""The notifier in memory, for tests and for a single process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from api_shared.notifier.events import JobEvent, StoredResult
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.redis.keys import Keys
from api_shared.notifier.subscription import (
    QueuedSubscription,
    each_once,
    latest_progress,
    one_is_enough,
)
from api_shared.notifier.text_stream import Outgoing, Written


class MemoryNotifier(Notifier):
    """A notifier without a server. `away = True` acts as a lost Redis: nothing is published."""

    def __init__(self) -> None:
        self.away = False
        self._keys = Keys("memory")
        self._subscriptions: defaultdict[str, list[QueuedSubscription[Any]]] = defaultdict(list)
        self._results: dict[str, bytes] = {}
        self._texts: dict[str, list[tuple[int, Written]]] = {}
        self._stretches = 0

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def publish(self, event: JobEvent, result: StoredResult | None = None) -> None:
        if self.away:
            return
        if result is not None:
            self._results[result.job_id] = result.value
        for channel in self._keys.channels_of(event):
            self._deliver(channel, event)

    def publish_cancel(self, job_id: str) -> None:
        if not self.away:
            self._deliver(self._keys.cancel, job_id)

    @asynccontextmanager
    async def subscribe(
        self, *, job_id: str | None = None, owner: str | None = None
    ) -> AsyncIterator[QueuedSubscription[JobEvent]]:
        channel = self._keys.channel_for(job_id=job_id, owner=owner)
        subscription: QueuedSubscription[JobEvent] = QueuedSubscription(latest_progress)
        with self._listening(channel, subscription):
            yield subscription

    async def cancel_requests(self) -> AsyncGenerator[str, None]:
        subscription: QueuedSubscription[str] = QueuedSubscription(each_once)
        with self._listening(self._keys.cancel, subscription):
            async for job_id in subscription:
                yield job_id

    def publish_text(self, outgoing: Outgoing) -> None:
        written = outgoing.unsent()
        if self.away or written is None:
            return
        kept = self._texts.setdefault(outgoing.job_id, [])
        written_by = kept[-1][1].claim_no if kept else 0
        if written_by < written.claim_no:
            kept.clear()
        if written_by <= written.claim_no:
            self._stretches += 1
            kept.append((self._stretches, written))
        outgoing.confirm(written)
        self._deliver(self._keys.text_news(outgoing.job_id), "more")

    @asynccontextmanager
    async def follow_text(self, job_id: str) -> AsyncIterator[_Following]:
        subscription: QueuedSubscription[str] = QueuedSubscription(one_is_enough)
        subscription.lose()
        with self._listening(self._keys.text_news(job_id), subscription):
            yield _Following(subscription, lambda: self._read_text(job_id))

    def _read_text(self, job_id: str) -> list[tuple[int, Written]]:
        return [] if self.away else self._texts.get(job_id, [])

    async def load_result(self, job_id: str) -> bytes | None:
        return None if self.away else self._results.get(job_id)

    async def server_version(self) -> str:
        return "in memory"

    @property
    def listening(self) -> int:
        """The number of open subscriptions."""
        return sum(map(len, self._subscriptions.values()))

    def lose(self) -> None:
        """Act as the restart of a server: results are lost, listeners may have missed events."""
        self._results.clear()
        self._texts.clear()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.lose()

    def _deliver(self, channel: str, item: JobEvent | str) -> None:
        for subscription in self._subscriptions.get(channel, ()):
            subscription.deliver(item)

    @contextmanager
    def _listening(self, channel: str, subscription: QueuedSubscription[Any]) -> Iterator[None]:
        self._subscriptions[channel].append(subscription)
        try:
            yield
        finally:
            self._subscriptions[channel].remove(subscription)
            if not self._subscriptions[channel]:
                del self._subscriptions[channel]


class _Following:
    """The text of a job. Each stretch, numbered by the notifier, is returned once."""

    def __init__(
        self, subscription: QueuedSubscription[str], read: Callable[[], list[tuple[int, Written]]]
    ) -> None:
        self._subscription = subscription
        self._read = read
        self._last = 0

    async def next(self, timeout_s: float) -> list[Written]:
        await self._subscription.next(timeout_s)
        news = [(number, written) for number, written in self._read() if number > self._last]
        self._last = news[-1][0] if news else self._last
        return [written for _, written in news]

    def wake(self) -> None:
        self._subscription.lose()
