"""
Natural batching: what gathers during one write is sent with the next.

There is no timer. A lone caller does not wait; a hundred callers share one round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Generic, TypeVar

from api_shared.backoff import backoff_s
from api_shared.cancellation import cancel_and_wait

Op = TypeVar("Op")
Answer = TypeVar("Answer")


class Unsent(Exception):
    """Raised by `send` or `ready`: this attempt has certainly not changed anything."""


class Unanswered(Exception):
    """
    Raised by `send`, or returned as the answer of one operation: it is not known whether the
    operation was applied, so it is sent again.
    """


class GaveUp(Exception):
    """
    The deadline has passed, or the batcher was closed: the operation is not sent again.

    `in_doubt`: an attempt may have arrived all the same. `reason` is the text of the last failure.
    """

    def __init__(self, *, in_doubt: bool, reason: str) -> None:
        self.in_doubt = in_doubt
        self.reason = reason
        super().__init__(reason)


@dataclass(eq=False, slots=True)
class _Entry(Generic[Op, Answer]):
    """One waiting caller, with a future of its own: its cancellation affects no other caller."""

    op: Op
    key: Hashable
    size_bytes: int
    answer: asyncio.Future[Answer]
    sending: bool = False
    in_doubt: bool = False


pause_s = partial(backoff_s, base_s=0.05, cap_s=2.0)
"""Seconds before the next attempt after so many failures in a row."""


class Batcher(Generic[Op, Answer]):
    """
    Sends operations in batches, one batch at a time, until each operation is answered.

    `send` takes a batch and returns the answers of its operations in the same order. An exception
    among the answers is raised for that one caller. An exception that `send` raises, other than
    `Unsent` and `Unanswered`, is raised for all callers of the batch. `key` names what an operation
    changes: a batch holds at most one operation for each key, and the operations of a key keep
    their order. `ready` is awaited before each batch is gathered. While it raises `Unsent`, callers
    can give up without doubt, and it is awaited again and again, whether callers wait or not.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Op]], Awaitable[Sequence[Answer | Exception]]],
        *,
        key: Callable[[Op], Hashable],
        size_bytes: Callable[[Op], int] = lambda _: 0,
        ready: Callable[[], Awaitable[None]] | None = None,
        max_count: int = 200,
        max_bytes: int = 8 * 1024 * 1024,
        pause_s: Callable[[int], float] = pause_s,
    ) -> None:
        self._send = send
        self._key = key
        self._size_bytes = size_bytes
        self._ready = ready
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._pause_s = pause_s
        self._waiting: deque[_Entry[Op, Answer]] = deque()
        self._under_way: list[_Entry[Op, Answer]] = []
        self._runner: asyncio.Task[None] | None = None
        self._reason = "no answer yet"
        self._not_ready_since: float | None = None
        self._closed = False

    def check(self, deadline_s: float) -> None:
        """Raise `GaveUp` if the server has not been ready for as long as a caller would wait."""
        since = self._not_ready_since
        if since is not None and monotonic() - since >= deadline_s:
            raise GaveUp(in_doubt=False, reason=self._reason)

    async def submit(self, op: Op, *, deadline_s: float | None = None) -> Answer:
        """The operation's answer. Raises `GaveUp` after `deadline_s`, or at once as `check`."""
        if self._closed:
            raise GaveUp(in_doubt=False, reason="closed")
        if deadline_s is not None:
            self.check(deadline_s)
        loop = asyncio.get_running_loop()
        entry = _Entry[Op, Answer](op, self._key(op), self._size_bytes(op), loop.create_future())
        self._waiting.append(entry)
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run(), name="batcher")
        if deadline_s is None:
            return await entry.answer
        timer = loop.call_later(deadline_s, self._give_up, entry)
        try:
            return await entry.answer
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Stop sending. Callers that still wait get `GaveUp`."""
        self._closed = True
        self._reason = "closed"
        if self._runner is not None:
            await cancel_and_wait(self._runner)
        for entry in [*self._under_way, *self._waiting]:
            self._give_up(entry)
        self._under_way = []
        self._waiting.clear()

    def _give_up(self, entry: _Entry[Op, Answer]) -> None:
        if not entry.answer.done():
            in_doubt = entry.in_doubt or entry.sending
            entry.answer.set_exception(GaveUp(in_doubt=in_doubt, reason=self._reason))

    async def _run(self) -> None:
        failures = 0
        while self._drop_abandoned() or self._not_ready_since is not None:
            try:
                await self._wait_until_ready()
                self._under_way = batch = self._gather()
                answers = await self._send([entry.op for entry in batch]) if batch else []
                failures = 0 if self._settle(batch, answers) else failures + 1
            except (Unsent, Unanswered) as error:
                self._reason = str(error)
                self._put_back(self._under_way, in_doubt=isinstance(error, Unanswered))
                failures += 1
            except Exception as error:
                self._fail(self._under_way or self._waiting, error)
            self._under_way = []
            if failures:
                await asyncio.sleep(self._pause_s(failures))

    async def _wait_until_ready(self) -> None:
        """Raises `Unsent`, and notes since when."""
        if self._ready is None:
            return
        try:
            await self._ready()
        except Unsent:
            self._not_ready_since = self._not_ready_since or monotonic()
            raise
        self._not_ready_since = None

    def _drop_abandoned(self) -> bool:
        """Forget the operations whose callers are gone. True if any operation is left."""
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        return bool(self._waiting)

    def _gather(self) -> list[_Entry[Op, Answer]]:
        batch: list[_Entry[Op, Answer]] = []
        keys: set[Hashable] = set()
        later: list[_Entry[Op, Answer]] = []
        size_bytes = 0
        while self._waiting and len(batch) < self._max_count:
            entry = self._waiting[0]
            if batch and size_bytes + entry.size_bytes > self._max_bytes:
                break
            self._waiting.popleft()
            if entry.answer.done():
                continue
            if entry.key in keys:
                later.append(entry)
                continue
            keys.add(entry.key)
            size_bytes += entry.size_bytes
            entry.sending = True
            batch.append(entry)
        self._waiting.extendleft(reversed(later))
        return batch

    def _settle(
        self, batch: list[_Entry[Op, Answer]], answers: Sequence[Answer | Exception]
    ) -> bool:
        """Whether all were answered. The others are sent again."""
        again: list[_Entry[Op, Answer]] = []
        for entry, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Unanswered):
                self._reason = str(answer)
                again.append(entry)
            elif entry.answer.done():
                continue
            elif isinstance(answer, Exception):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        self._put_back(again, in_doubt=True)
        return not again

    def _put_back(self, batch: list[_Entry[Op, Answer]], *, in_doubt: bool) -> None:
        """
        Put entries at the front, so that no later operation of the same key can overtake them.
        """
        for entry in batch:
            entry.sending = False
            entry.in_doubt = entry.in_doubt or in_doubt
        self._waiting.extendleft(reversed(batch))

    def _fail(self, batch: Iterable[_Entry[Op, Answer]], error: Exception) -> None:
        for entry in batch:
            if not entry.answer.done():
                entry.answer.set_exception(error)
