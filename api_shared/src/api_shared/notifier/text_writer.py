"""The writer of the text that a job streams while it runs."""

from __future__ import annotations

import asyncio

from api_shared.cancellation import cancel_and_wait
from api_shared.errors import TooLarge
from api_shared.job import Job
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.text_stream import Outgoing

PUBLISH_EVERY_S = 0.1


class TextWriter:
    """Gathers text that comes token by token into few entries: at most ten a second."""

    def __init__(self, job: Job, notifier: Notifier) -> None:
        self._outgoing = Outgoing(job.id, job.claim_no)
        self._notifier = notifier
        self._size_bytes = 0
        self._is_new = False
        self._publishing: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        return self._size_bytes > 0

    def write(self, text: str, *, limit_bytes: int) -> None:
        """
        Write without waiting for Redis. Raises `TooLarge` if the whole text is over `limit_bytes`.
        """
        encoded = text.encode("utf-8", "replace")
        size_bytes = self._size_bytes + len(encoded)
        if size_bytes > limit_bytes:
            raise TooLarge(
                "the text that the job writes", size_bytes, limit_bytes, "MAX_RESULT_BYTES"
            )
        self._size_bytes = size_bytes
        self._outgoing.add(encoded.decode())
        self._is_new = True
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())

    async def close(self) -> None:
        """Publish what is left."""
        if self._publishing is not None:
            await cancel_and_wait(self._publishing)
        if self._is_new:
            self._notifier.publish_text(self._outgoing)

    async def _publish(self) -> None:
        while self._is_new:
            self._is_new = False
            self._notifier.publish_text(self._outgoing)
            await asyncio.sleep(PUBLISH_EVERY_S)
        self._publishing = None
