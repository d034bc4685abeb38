"""
The text of a job while its task writes it: live from the notifier, and complete from the ledger.

The result of a job holds its whole text: the result is a text, or has it in its field `text`, or
passes on another result in its field `result`. When the job ends, the text that Redis lost or never
had is read from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any

from api_shared.cancellation import cancel_and_wait
from api_shared.client.follow.watch import watch
from api_shared.errors import JobNotFound
from api_shared.job import Job, parse_job_id
from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.text_stream import Written

LOOK_EVERY_S = 3.0
"""How often Redis is asked for the text while no notification of it arrives."""


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """`text` follows what came before. With `restart` it replaces all that came before."""

    text: str
    restart: bool = False


async def stream(
    job_id: str, *, ledger: Ledger, notifier: Notifier
) -> AsyncGenerator[StreamPiece, None]:
    """
    The text that the job has written so far, then what it writes, until it ends.

    Joined, the pieces are the text of the run that counts. The text of a run that was lost or is
    retried is replaced by a `restart`, unless the next run writes the same. The text of a writer
    that lost its claim is ignored. Without Redis the whole text comes at the end. Raises
    `InvalidJobId`, `JobNotFound`, `LedgerUnavailable`.
    """
    job_id = parse_job_id(job_id)
    state = StreamState()
    async with notifier.follow_text(job_id) as following:
        ended = asyncio.create_task(_ended(job_id, ledger, notifier))
        ended.add_done_callback(lambda _: following.wake())
        try:
            while True:
                is_last = ended.done()
                piece = state.on_written(await following.next(0.0 if is_last else LOOK_EVERY_S))
                if piece is not None:
                    yield piece
                if is_last:
                    break
            piece = state.on_end(text_of(await ended))
            if piece is not None:
                yield piece
        finally:
            await cancel_and_wait(ended)


def text_of(job: Job) -> str | None:
    """The whole text of a completed job that wrote one, if its result holds it."""
    if not job.streamed:
        return None
    result: Any = job.result
    while isinstance(result, dict):
        result = result.get("text", result.get("result"))
    return result if isinstance(result, str) else None


async def _ended(job_id: str, ledger: Ledger, notifier: Notifier) -> Job:
    """The record of the job when it has ended."""
    async for _ in watch(job_id, ledger=ledger, notifier=notifier):
        pass
    job = await ledger.get(job_id)
    if job is None:  # it expired just now
        raise JobNotFound(job_id)
    return job


class StreamState:
    """
    The text that a listener has received, and the text that counts, which is that of the highest
    claim.

    A run may write again what an earlier run wrote (it recalls its journal). That is not sent
    twice: no piece follows until the run writes more, or something else.
    """

    def __init__(self) -> None:
        self._sent = ""
        self._claim_no = 0
        self._text = ""

    def on_written(self, batch: Iterable[Written]) -> StreamPiece | None:
        """The piece that follows from what was written. None: there is nothing to send."""
        for written in batch:
            self._add(written)
        return self._next_piece(is_whole=False)

    def on_end(self, text: str | None) -> StreamPiece | None:
        """The last piece. `text` None: the job has no other text than what it wrote."""
        if text is not None:
            self._text = text
        return self._next_piece(is_whole=True)

    def _add(self, written: Written) -> None:
        if written.claim_no < self._claim_no:
            return
        if written.claim_no > self._claim_no:
            self._claim_no, self._text = written.claim_no, ""
        known = len(self._text) - written.offset
        if known >= 0:  # otherwise text before it was lost, and the whole comes at the end
            self._text += written.text[known:]

    def _next_piece(self, *, is_whole: bool) -> StreamPiece | None:
        sent, text = self._sent, self._text
        if text == sent or (sent.startswith(text) and not is_whole):
            return None
        self._sent = text
        if text.startswith(sent):
            return StreamPiece(text[len(sent) :])
        return StreamPiece(text, restart=True)
