"""The notifier as the rest of the platform sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from api_shared.notifier.events import JobEvent, StoredResult
from api_shared.notifier.text_stream import Outgoing, Written


class Subscription(Protocol):
    """Messages of the channels subscribed to; ends never by itself."""

    def __aiter__(self) -> AsyncIterator[JobEvent]: ...

    async def next(self, timeout_s: float) -> JobEvent | None:
        """The next event, or None after `timeout_s` or when the connection was lost meanwhile."""


class TextSubscription(Protocol):
    """What one job writes, from the first character that Redis still has."""

    async def next(self, timeout_s: float) -> list[Written]:
        """
        What can be read now and was not yet, in order; waits for news up to `timeout_s`, but not
        the first time. Empty where there is none, or Redis is away.
        """

    def wake(self) -> None:
        """End the wait of `next`."""


class Notifier(Protocol):
    """Publishing never raises and never waits for Redis: what cannot be told is dropped."""

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Tell what is still to be told, within a second, then close."""

    def publish(self, event: JobEvent, result: StoredResult | None = None) -> None:
        """Publish to the job's, its owner's and the common channel; store the result with it."""

    def publish_cancel(self, job_id: str) -> None:
        """Tell the workers at once that the ledger holds a request to cancel."""

    def subscribe(
        self, *, job_id: str | None = None, owner: str | None = None
    ) -> AbstractAsyncContextManager[Subscription]:
        """Events of one job, of one owner, or (neither given) of all; never raises for Redis."""

    def cancel_requests(self) -> AsyncIterator[str]:
        """Job ids that somebody asked to cancel; goes on by itself after a lost connection."""

    def publish_text(self, outgoing: Outgoing) -> None:
        """Let listeners read, soon, all that `outgoing` holds; again, after an outage."""

    def follow_text(self, job_id: str) -> AbstractAsyncContextManager[TextSubscription]:
        """
        What the claim with the highest number has written, of those that have; never raises for
        Redis.
        """

    async def load_result(self, job_id: str) -> bytes | None:
        """The stored taskiq result; None where Redis has none or is away."""

    async def server_version(self) -> str:
        """For people; raises `ServerError`."""
