"""The text of a job: what a listener is shown is in the end the text that counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.client.follow.stream import StreamPiece, StreamState, stream
from api_shared.errors import JobNotFound, TooLarge
from api_shared.job import Job, new_job_id
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Cancel, Complete, Release
from api_shared.ledger.transitions import publish_due
from api_shared.notifier.events import status_event
from api_shared.notifier.memory import MemoryNotifier
from api_shared.notifier.text_stream import Outgoing, Written
from api_shared.testing.waiting import until
from api_shared.worker.run.held_claim import HeldClaim
from fixtures.ledgers import claimed, inserted

LIMIT = 1000


def put_together(pieces: Iterable[StreamPiece | None]) -> str:
    """As a listener does."""
    text = ""
    for piece in pieces:
        if piece is not None:
            text = piece.text if piece.restart else text + piece.text
    return text


# Few letters, so that runs often say the same.
texts = st.text("ab", max_size=12)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[list[Written], str]:
    """What two or three claims wrote, sent again and late in any way; and the last one's text."""
    written: list[Written] = []
    text = ""
    for claim_no in range(1, draw(st.integers(1, 3)) + 1):
        text = draw(texts)
        cuts = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=4))})
        parts = [Written(claim_no, start, text[start:end]) for start, end in pairwise(cuts)]
        again = draw(st.lists(st.sampled_from(parts), max_size=3)) if parts else []
        written += sorted([*parts, *again], key=lambda part: part.offset)
        late = draw(st.lists(st.sampled_from(written), max_size=2)) if written else []
        written += [part for part in late if part.claim_no < claim_no or part in parts]
    return written, text


def in_batches(written: list[Written], data: st.DataObject) -> list[list[Written]]:
    """As they are read: some at a time."""
    size = data.draw(st.integers(1, 4))
    return [written[start : start + size] for start in range(0, len(written), size)]


@given(stretches(), st.data())
def test_the_pieces_are_the_text_of_the_last_claim(
    case: tuple[list[Written], str], data: st.DataObject
) -> None:
    written, text = case
    state = StreamState()
    pieces = [*map(state.on_written, in_batches(written, data)), state.on_end(text)]
    assert put_together(pieces) == text
    if text and all(each.claim_no == 1 for each in written):
        assert not any(piece.restart for piece in pieces if piece)


@given(stretches(), st.data())
def test_whatever_is_lost_on_the_way_the_end_tells_the_text(
    case: tuple[list[Written], str], data: st.DataObject
) -> None:
    written, text = case
    kept = [each for each in written if data.draw(st.booleans())]
    state = StreamState()
    pieces = [*map(state.on_written, in_batches(kept, data)), state.on_end(text)]
    assert put_together(pieces) == text


def test_a_run_that_says_the_same_again_is_not_told_twice() -> None:
    state = StreamState()
    pieces = [
        state.on_written([Written(1, 0, "one two")]),
        state.on_written([Written(2, 0, "one")]),
        state.on_written([Written(2, 3, " two three")]),
        state.on_written([Written(1, 13, " stale")]),
    ]
    assert pieces == [StreamPiece("one two"), None, StreamPiece(" three"), None]


def test_a_run_that_says_something_else_starts_the_text_anew() -> None:
    state = StreamState()
    state.on_written([Written(1, 0, "one two")])
    assert state.on_written([Written(2, 0, "once")]) == StreamPiece("once", restart=True)
    assert state.on_written([Written(2, 4, " more")]) == StreamPiece(" more")


def test_text_behind_a_hole_is_not_shown_before_the_end() -> None:
    state = StreamState()
    assert state.on_written([Written(1, 5, "tail")]) is None
    assert state.on_end("head tail") == StreamPiece("head tail")


@given(st.lists(st.tuples(st.text(max_size=3), st.booleans(), st.booleans())))
def test_what_is_confirmed_is_sent_once_and_the_rest_again(
    steps: list[tuple[str, bool, bool]],
) -> None:
    outgoing = Outgoing("id", 1)
    received = ""
    for text, sent, confirmed in steps:
        outgoing.add(text)
        stretch = outgoing.unsent() if sent else None
        outgoing.add("x")
        if stretch is not None:
            assert stretch.offset <= len(received)
            received += stretch.text[len(received) - stretch.offset :]
            if confirmed:
                outgoing.confirm(stretch)
                outgoing.confirm(stretch)
    last = outgoing.unsent()
    if last is not None:
        received += last.text[len(received) - last.offset :]
    assert received == "".join(f"{text}x" for text, _, _ in steps)


# A job that writes, and those who listen.


class Writer:
    """A job and the claim that writes its text."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.notifier = MemoryNotifier()

    async def begin(self) -> HeldClaim:
        self.id = (await inserted(self.ledger)).id
        return await self.claim()

    async def claim(self) -> HeldClaim:
        job, token = await claimed(self.ledger, self.id)
        self.notifier.publish(status_event(job))
        return HeldClaim(job, token, self.ledger, self.notifier)

    async def lose(self, claim: HeldClaim) -> HeldClaim:
        """The claim ends where nobody hears of it; the next one."""
        await self.ledger.apply(Release(self.id, claim.token, claim.next_seq(), -1, "lost"))
        job = await self.ledger.change(publish_due(await self.job(), republish_after_s=30))
        assert job is not None
        return await self.claim()

    async def complete(self, claim: HeldClaim, result_json: str) -> None:
        seq, streamed = await claim.settle(), claim.text.has_begun
        write = Complete(self.id, claim.token, seq, result_json, 60, streamed)
        assert await self.ledger.apply(write)
        self.notifier.publish(status_event(await self.job()))

    async def job(self) -> Job:
        job = await self.ledger.get(self.id)
        assert job is not None
        return job

    def listen(self) -> AsyncIterator[StreamPiece]:
        return stream(self.id, ledger=self.ledger, notifier=self.notifier)

    async def heard(self) -> list[StreamPiece]:
        async with asyncio.timeout(30):
            return [piece async for piece in self.listen()]


async def test_who_listens_gets_the_text_as_it_is_written_and_the_end_ends_it() -> None:
    writer = Writer()
    claim = await writer.begin()
    pieces = writer.listen()
    async with asyncio.timeout(30):
        claim.text.write("Hello", limit_bytes=LIMIT)
        assert await anext(pieces) == StreamPiece("Hello")
        claim.text.write(", ", limit_bytes=LIMIT)
        claim.text.write("Ada", limit_bytes=LIMIT)
        assert await anext(pieces) == StreamPiece(", Ada")
        claim.text.write("!", limit_bytes=LIMIT)
        await writer.complete(claim, '"Hello, Ada!"')
        assert [piece async for piece in pieces] == [StreamPiece("!")]


async def test_who_comes_late_or_again_gets_all_of_it() -> None:
    writer = Writer()
    claim = await writer.begin()
    claim.text.write("all of it", limit_bytes=LIMIT)
    await writer.complete(claim, '{"text": "all of it", "usage": {}}')
    assert await writer.heard() == await writer.heard() == [StreamPiece("all of it")]


async def test_without_redis_the_text_comes_whole_from_the_ledger() -> None:
    writer = Writer()
    claim = await writer.begin()
    listening = asyncio.create_task(writer.heard())
    writer.notifier.away = True
    claim.text.write("never told", limit_bytes=LIMIT)
    await writer.complete(claim, '{"text": "never told"}')
    writer.notifier.lose()
    assert await listening == [StreamPiece("never told")]


async def test_after_an_outage_the_text_goes_on_without_a_hole() -> None:
    writer = Writer()
    claim = await writer.begin()
    pieces = writer.listen()
    async with asyncio.timeout(30):
        claim.text.write("one ", limit_bytes=LIMIT)
        assert await anext(pieces) == StreamPiece("one ")
        writer.notifier.away = True
        claim.text.write("two ", limit_bytes=LIMIT)
        await until(lambda: not claim.text._is_new)
        writer.notifier.away = False
        claim.text.write("three", limit_bytes=LIMIT)
        heard = ""
        while heard != "two three":
            heard += (await anext(pieces)).text
        await writer.complete(claim, '"one two three"')
        assert [piece async for piece in pieces] == []


async def test_a_worker_that_lost_its_claim_is_not_heard() -> None:
    writer = Writer()
    first = await writer.begin()
    first.text.write("first says", limit_bytes=LIMIT)
    await first.text.close()
    pieces = writer.listen()
    async with asyncio.timeout(30):
        assert await anext(pieces) == StreamPiece("first says")
        second = await writer.lose(first)
        second.text.write("second says", limit_bytes=LIMIT)
        assert await anext(pieces) == StreamPiece("second says", restart=True)
        first.text.write(" more", limit_bytes=LIMIT)
        await first.text.close()
        second.text.write(" all", limit_bytes=LIMIT)
        assert await anext(pieces) == StreamPiece(" all")
        await writer.complete(second, '"second says all"')
        assert [piece async for piece in pieces] == []
    assert await writer.heard() == [StreamPiece("second says all")]


async def test_the_text_of_a_job_that_is_cancelled_ends_where_it_was() -> None:
    writer = Writer()
    claim = await writer.begin()
    claim.text.write("half of", limit_bytes=LIMIT)
    seq = await claim.settle()
    assert await writer.ledger.apply(Cancel(writer.id, claim.token, seq, 60))
    assert await writer.heard() == [StreamPiece("half of")]


async def test_a_job_that_wrote_nothing_has_no_text_whatever_its_result() -> None:
    writer = Writer()
    await writer.complete(await writer.begin(), '"a secret result"')
    assert await writer.heard() == []


@pytest.mark.parametrize("result", ['{"text": "padded"}', '{"result": {"text": "padded"}}'])
async def test_a_result_that_says_something_else_is_the_text(result: str) -> None:
    writer = Writer()
    claim = await writer.begin()
    claim.text.write(" padded ", limit_bytes=LIMIT)
    await writer.complete(claim, result)
    assert put_together(await writer.heard()) == "padded"


async def test_an_unknown_job_has_no_text() -> None:
    writer = Writer()
    writer.id = new_job_id()
    with pytest.raises(JobNotFound):
        await writer.heard()


async def test_a_text_over_the_limit_is_refused_whole() -> None:
    writer = Writer()
    claim = await writer.begin()
    claim.text.write("é" * 5, limit_bytes=10)
    with pytest.raises(TooLarge, match="MAX_RESULT_BYTES"):
        claim.text.write("!", limit_bytes=10)
    await writer.complete(claim, "null")
    assert await writer.heard() == [StreamPiece("ééééé")]


async def test_tokens_that_come_together_are_told_together() -> None:
    writer = Writer()
    claim = await writer.begin()
    for _ in range(500):
        claim.text.write("a", limit_bytes=LIMIT)
    await claim.text.close()
    async with writer.notifier.follow_text(writer.id) as following:
        assert await following.next(0) == [Written(1, 0, "a" * 500)]
