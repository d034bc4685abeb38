"""The protocol of the notifier."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from api_shared.notifier.events import JobEvent, StoredResult
from api_shared.notifier.text_stream import Outgoing, Written


class Subscription(Protocol):
    """Messages of the subscribed channels. A subscription never ends by itself."""

    def __aiter__(self) -> AsyncIterator[JobEvent]: ...

    async def next(self, timeout_s: float) -> JobEvent | None:
        """The next event. None after `timeout_s`, or if the connection was lost meanwhile."""


class TextSubscription(Protocol):
    """The text of one job, from the first character that Redis still has."""

    async def next(self, timeout_s: float) -> list[Written]:
        """
        The text that was not read yet, in order. Waits for more for up to `timeout_s`, except the
        first time. Empty if there is none, or Redis is away.
        """

    def wake(self) -> None:
        """End the wait of `next`."""


class Notifier(Protocol):
    """Publishing never raises and never waits for Redis: what cannot be published is dropped."""

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Publish what is still waiting, within a second, then close."""

    def publish(self, event: JobEvent, result: StoredResult | None = None) -> None:
        """
        Publish to the channels of the job, of its owner and of all jobs, and store the result.
        """

    def publish_cancel(self, job_id: str) -> None:
        """Notify the workers at once that the ledger holds a request to cancel."""

    def subscribe(
        self, *, job_id: str | None = None, owner: str | None = None
    ) -> AbstractAsyncContextManager[Subscription]:
        """Events of one job, of one owner, or of all jobs. Never raises if Redis is away."""

    def cancel_requests(self) -> AsyncIterator[str]:
        """Ids of jobs to cancel. It goes on by itself after a lost connection."""

    def publish_text(self, outgoing: Outgoing) -> None:
        """Publish soon what `outgoing` holds, again after an outage."""

    def follow_text(self, job_id: str) -> AbstractAsyncContextManager[TextSubscription]:
        """
        The text of the highest-numbered claim that has written. Never raises if Redis is away.
        """

    async def load_result(self, job_id: str) -> bytes | None:
        """The stored taskiq result. None if Redis has none or is away."""

    async def server_version(self) -> str:
        """The server's version, for people. Raises `ServerError`."""
