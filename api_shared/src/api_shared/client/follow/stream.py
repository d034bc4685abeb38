"""
The text of a job, as its task writes it: told by the notifier, vouched for by the ledger.

A job's result is the truth about its text: a result that is a text, or its field `text`, or that of
the result that it passes on as its field `result`. What Redis lost, or never had, comes from there
when the job ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any

from api_shared.client.follow.watch import watch
from api_shared.errors import JobNotFound
from api_shared.job import Job, parse_job_id
from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.text_stream import Written

LOOK_EVERY_S = 3.0
"""How often the text is looked for where nothing was heard of it."""


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """`text` follows what came before; with `restart` it takes the place of all that came."""

    text: str
    restart: bool = False


async def stream(
    job_id: str, *, ledger: Ledger, notifier: Notifier
) -> AsyncGenerator[StreamPiece, None]:
    """
    What the job has written so far, then what it writes, until it ends.

    Put together, the pieces are the text of the run that counts: a run that was lost, and one that
    is retried, is forgotten with a `restart` (unless the next one says the same), and a writer
    that lost its claim is not heard. Without Redis the text comes whole, at the end. Raises
    `InvalidJobId`, `JobNotFound`, `LedgerUnavailable`.
    """
    job_id = parse_job_id(job_id)
    shown = Shown()
    async with notifier.follow_text(job_id) as following:
        ended = asyncio.create_task(_ended(job_id, ledger, notifier))
        ended.add_done_callback(lambda _: following.wake())
        try:
            while True:
                is_last = ended.done()
                piece = shown.after(await following.next(0.0 if is_last else LOOK_EVERY_S))
                if piece is not None:
                    yield piece
                if is_last:
                    break
            piece = shown.at_the_end(text_of(await ended))
            if piece is not None:
                yield piece
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)


def text_of(job: Job) -> str | None:
    """The whole text of a completed job that wrote one, if its result carries it."""
    if not job.streamed:
        return None
    result: Any = job.result
    while isinstance(result, dict):
        result = result.get("text", result.get("result"))
    return result if isinstance(result, str) else None


async def _ended(job_id: str, ledger: Ledger, notifier: Notifier) -> Job:
    """The record of the job once it has ended."""
    async for _ in watch(job_id, ledger=ledger, notifier=notifier):
        pass
    job = await ledger.get(job_id)
    if job is None:  # it expired in this moment
        raise JobNotFound(job_id)
    return job


class Shown:
    """
    The text that a listener has been shown, and how it becomes the one that counts.

    The highest claim counts. A run that says again what an earlier one said (it recalls its
    journal) is not told twice: nothing is shown until it says more, or something else.
    """

    def __init__(self) -> None:
        self._shown = ""
        self._claim_no = 0
        self._text = ""

    def after(self, news: Iterable[Written]) -> StreamPiece | None:
        """What to show of all `news`; None: nothing."""
        for written in news:
            self._put_together(written)
        return self._catch_up(is_whole=False)

    def at_the_end(self, text: str | None) -> StreamPiece | None:
        """What is left to show; `text` None: the job has no text but what it wrote."""
        if text is not None:
            self._text = text
        return self._catch_up(is_whole=True)

    def _put_together(self, written: Written) -> None:
        if written.claim_no < self._claim_no:
            return
        if written.claim_no > self._claim_no:
            self._claim_no, self._text = written.claim_no, ""
        known = len(self._text) - written.offset
        if known >= 0:  # else a stretch before it was lost: the end of the job tells the whole
            self._text += written.text[known:]

    def _catch_up(self, *, is_whole: bool) -> StreamPiece | None:
        shown, text = self._shown, self._text
        if text == shown or (shown.startswith(text) and not is_whole):
            return None
        self._shown = text
        if text.startswith(shown):
            return StreamPiece(text[len(shown) :])
        return StreamPiece(text, restart=True)
