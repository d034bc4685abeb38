"""The publisher to Redis: items that gather during one round trip are sent in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import structlog
from redis.asyncio import Redis

from api_shared.cancellation import cancel_and_wait
from api_shared.notifier.bounded_queue import BoundedQueue
from api_shared.notifier.events import JobEvent, StoredResult
from api_shared.notifier.redis.keys import Keys
from api_shared.notifier.redis.outage import Outage, describe, pause_s
from api_shared.notifier.redis.text_stream import Command, append_command
from api_shared.notifier.subscription import latest_progress
from api_shared.notifier.text_stream import Outgoing, Written

log = structlog.get_logger(__name__)

OUTBOX_LIMIT = 10_000
OUTBOX_LIMIT_BYTES = 64 * 1024 * 1024
ROUND_LIMIT = 500
ROUND_DEADLINE_S = 2.0
FLUSH_DEADLINE_S = 0.9


@dataclass(frozen=True, slots=True)
class _Event:
    event: JobEvent
    result: StoredResult | None


@dataclass(frozen=True, slots=True)
class _Cancel:
    job_id: str


@dataclass(frozen=True, slots=True)
class _Text:
    outgoing: Outgoing


_PARTS = {"EVAL": "text", "SET": "store", "PUBLISH": "publisher"}
"""A server may refuse one kind of command and accept the others."""

_Entry = _Event | _Cancel | _Text


class Publisher:
    """
    Writes rounds, one at a time, each as one pipeline.

    A round that fails is dropped, since nothing waits for it. Only its texts are sent again, from
    where Redis has them. While Redis is away, items stay in the bounded outbox, and are sent when a
    PING is answered again.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        outage: Outage,
        *,
        result_ttl_s: float,
        text_ttl_s: float,
        rng: Random,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._outage = outage
        self._result_ttl_ms = max(1, int(result_ttl_s * 1000))
        self._text_ttl_ms = max(1, int(text_ttl_s * 1000))
        self._rng = rng
        self._outbox: BoundedQueue[_Entry] = BoundedQueue(
            OUTBOX_LIMIT, limit_bytes=OUTBOX_LIMIT_BYTES
        )
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="notifier.publisher")

    async def close(self) -> None:
        """Send what is left, within a second. It does not wait for the end of an outage."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=FLUSH_DEADLINE_S)
            await cancel_and_wait(self._task)
            self._task = None

    def publish(self, event: JobEvent, result: StoredResult | None) -> None:
        size_bytes = 0 if result is None else len(result.value)
        self._outbox.add(_Event(event, result), key=latest_progress(event), size_bytes=size_bytes)
        self._wake.set()

    def publish_cancel(self, job_id: str) -> None:
        self._outbox.add(_Cancel(job_id))
        self._wake.set()

    def publish_text(self, outgoing: Outgoing) -> None:
        written = outgoing.unsent()
        if written is not None:
            key = f"text:{outgoing.job_id}:{outgoing.claim_no}"
            self._outbox.add(_Text(outgoing), key=key, size_bytes=len(written.text))
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            entries = self._outbox.take(ROUND_LIMIT)
            if not entries:
                if self._closing.is_set():
                    return
                self._wake.clear()
                continue
            try:
                async with asyncio.timeout(ROUND_DEADLINE_S):
                    await self._send(entries)
            except Exception as error:  # whatever the client raises must not fail a job
                self._outage.notice("publisher", error)
                for entry in entries:
                    if isinstance(entry, _Text):
                        self.publish_text(entry.outgoing)
                if not await self._is_back():
                    return

    async def _send(self, entries: Sequence[_Entry]) -> None:
        """Send texts and events in the order of their calls: a job's end comes after its text."""
        commands: list[Command] = []
        texts: dict[int, tuple[Outgoing, Written]] = {}
        for entry in entries:
            if not isinstance(entry, _Text):
                commands.extend(self._commands(entry))
            elif written := entry.outgoing.unsent():
                texts[len(commands)] = (entry.outgoing, written)
                ttl_ms = self._text_ttl_ms
                commands.append(append_command(self._keys, entry.outgoing, written, ttl_ms=ttl_ms))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
        for position, (outgoing, written) in texts.items():
            if not isinstance(replies[position], Exception):
                outgoing.confirm(written)
        parts: dict[str, list[object]] = {"EVAL": [], "SET": [], "PUBLISH": []}
        for command, reply in zip(commands, replies, strict=True):
            parts[str(command[0])].append(reply)
        for part, its_replies in parts.items():
            self._judge(_PARTS[part], its_replies)

    def _commands(self, entry: _Event | _Cancel) -> Sequence[Command]:
        """
        The commands, encoded one by one: one that cannot be encoded does not affect the others.
        """
        try:
            if isinstance(entry, _Cancel):
                return [("PUBLISH", self._keys.cancel.encode(), entry.job_id.encode())]
            text = entry.event.to_json().encode()
            channels = self._keys.channels_of(entry.event)
            commands = [("PUBLISH", channel.encode(), text) for channel in channels]
            if entry.result is None:
                return commands
            key = self._keys.result(entry.result.job_id).encode()
            return [("SET", key, entry.result.value, "PX", self._result_ttl_ms), *commands]
        except (TypeError, ValueError) as error:
            log.warning("notifier.not_encodable", error=describe(error))
            return []

    def _judge(self, who: str, replies: Sequence[object]) -> None:
        """
        Note the refusals of the server (no memory, no rights): each is an outage of that part.
        """
        refusal = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if refusal is not None:
            self._outage.notice(who, refusal)
        elif replies:
            self._outage.is_over_for(who)

    async def _is_back(self) -> bool:
        """Wait until a PING is answered. False: the notifier was closed first."""
        failures = 1
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(pause_s(failures, self._rng)):
                    await self._closing.wait()
            except TimeoutError:
                pass
            try:
                async with asyncio.timeout(ROUND_DEADLINE_S):
                    await self._redis.ping()
            except Exception:  # as above
                failures += 1
            else:
                self._outage.is_over_for("publisher")
                return True
        return False
