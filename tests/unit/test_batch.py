"""Natural batching, with a server of which each answer is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest

from api_shared.ledger.batcher import Batcher, GaveUp, Unanswered, Unsent, pause_s
from api_shared.testing.waiting import until

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Op:
    name: str
    key: str
    size_bytes: int = 1


class Server:
    """Answers each operation with its name, unless the script says something else for its turn."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.script: list[Exception | dict[str, Exception]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.ready_failures = 0
        self.arrived = asyncio.Event()

    async def ready(self) -> None:
        if self.ready_failures:
            self.ready_failures -= 1
            raise Unsent("away")

    async def send(self, batch: Sequence[Op]) -> Sequence[str | Exception]:
        self.batches.append([op.name for op in batch])
        self.arrived.set()
        await self.open.wait()
        turn = self.script.pop(0) if self.script else {}
        if isinstance(turn, Exception):
            raise turn
        return [turn.get(op.name, op.name) for op in batch]


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def batcher(server: Server) -> AsyncIterator[Batcher[Op, str]]:
    batcher = batcher_of(server)
    yield batcher
    await batcher.close()


def batcher_of(server: Server, *, max_count: int = 200, max_bytes: int = 1000) -> Batcher[Op, str]:
    return Batcher(
        server.send,
        key=lambda op: op.key,
        size_bytes=lambda op: op.size_bytes,
        ready=server.ready,
        max_count=max_count,
        max_bytes=max_bytes,
        pause_s=lambda _: 0.001,
    )


def op(name: str, key: str | None = None, size_bytes: int = 1) -> Op:
    return Op(name, key or name, size_bytes)


async def submit_while_busy(
    server: Server, batcher: Batcher[Op, str], *ops: Op
) -> list[asyncio.Task[str]]:
    """A first operation is under way, and `ops` wait behind it; the server's gate is shut."""
    server.open.clear()
    first = asyncio.create_task(batcher.submit(op("first")))
    await asyncio.wait_for(server.arrived.wait(), DEADLINE_S)
    tasks = [asyncio.create_task(batcher.submit(one)) for one in ops]
    await asyncio.sleep(0)
    return [first, *tasks]


async def test_a_lone_operation_is_sent_at_once(server: Server, batcher: Batcher[Op, str]) -> None:
    assert await batcher.submit(op("a")) == "a"
    assert await batcher.submit(op("b")) == "b"
    assert server.batches == [["a"], ["b"]]


async def test_what_gathers_while_a_batch_is_under_way_goes_out_as_one(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    tasks = await submit_while_busy(server, batcher, op("a"), op("b"), op("c"))
    server.open.set()
    assert await asyncio.gather(*tasks) == ["first", "a", "b", "c"]
    assert server.batches == [["first"], ["a", "b", "c"]]


async def test_operations_of_one_key_go_one_by_one_and_in_order(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    waiting = [op("a1", "a"), op("a2", "a"), op("b"), op("a3", "a")]
    tasks = await submit_while_busy(server, batcher, *waiting)
    server.open.set()
    await asyncio.gather(*tasks)
    assert server.batches == [["first"], ["a1", "b"], ["a2"], ["a3"]]


async def test_an_operation_sent_again_is_not_overtaken_by_a_later_one_of_its_key(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [{}, Unanswered("lost")]
    tasks = await submit_while_busy(server, batcher, op("a1", "a"), op("a2", "a"))
    server.open.set()
    await asyncio.gather(*tasks)
    assert server.batches == [["first"], ["a1"], ["a1"], ["a2"]]


async def test_a_batch_holds_at_most_max_count(server: Server) -> None:
    batcher = batcher_of(server, max_count=2)
    tasks = await submit_while_busy(server, batcher, op("a"), op("b"), op("c"))
    server.open.set()
    await asyncio.gather(*tasks)
    assert server.batches == [["first"], ["a", "b"], ["c"]]


async def test_a_batch_holds_at_most_max_bytes_but_one_large_operation_goes(
    server: Server,
) -> None:
    batcher = batcher_of(server, max_bytes=10)
    large = op("large", size_bytes=50)
    tasks = await submit_while_busy(
        server, batcher, op("a", size_bytes=6), op("b", size_bytes=6), large, op("c")
    )
    server.open.set()
    await asyncio.gather(*tasks)
    assert server.batches == [["first"], ["a"], ["b"], ["large"], ["c"]]


async def test_an_error_among_the_answers_reaches_its_caller_only(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [{}, {"b": ValueError("b is wrong")}]
    tasks = await submit_while_busy(server, batcher, op("a"), op("b"))
    server.open.set()
    first, a, b = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, a) == ("first", "a")
    assert isinstance(b, ValueError)


async def test_a_batch_without_an_answer_is_sent_again_until_answered(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [Unanswered("lost"), Unsent("away"), Unanswered("lost")]
    assert await batcher.submit(op("a")) == "a"
    assert server.batches == [["a"]] * 4


async def test_only_the_operation_without_an_answer_is_sent_again(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [{}, {"b": Unanswered("conflict")}]
    tasks = await submit_while_busy(server, batcher, op("a"), op("b"))
    server.open.set()
    assert await asyncio.gather(*tasks) == ["first", "a", "b"]
    assert server.batches == [["first"], ["a", "b"], ["b"]]


async def test_a_cancelled_caller_harms_nobody_else(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    first, a, b, c = await submit_while_busy(server, batcher, op("a"), op("b"), op("c"))
    first.cancel()
    b.cancel()
    server.open.set()
    assert [await a, await c] == ["a", "c"]
    assert server.batches == [["first"], ["a", "c"]]


async def test_what_every_caller_has_left_is_not_sent_again(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [Unanswered("lost")]
    (first,) = await submit_while_busy(server, batcher)
    first.cancel()
    server.open.set()
    assert await batcher.submit(op("later")) == "later"
    assert server.batches == [["first"], ["later"]]


async def test_a_deadline_before_the_operation_was_sent_leaves_no_doubt(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    (first,) = await submit_while_busy(server, batcher)
    with pytest.raises(GaveUp) as raised:
        await batcher.submit(op("a"), deadline_s=0.01)
    assert raised.value.in_doubt is False
    server.open.set()
    assert await first == "first"
    assert await batcher.submit(op("b")) == "b"
    assert server.batches == [["first"], ["b"]]


async def test_a_deadline_while_the_operation_is_under_way_leaves_a_doubt(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.open.clear()
    server.script = [Unanswered("lost")]
    with pytest.raises(GaveUp) as raised:
        await batcher.submit(op("a"), deadline_s=0.01)
    assert raised.value.in_doubt is True
    server.open.set()
    assert await batcher.submit(op("b")) == "b"
    assert server.batches == [["a"], ["b"]], "it gave up: it must not be sent again"


async def test_an_attempt_that_never_left_leaves_no_doubt(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [Unsent("no primary")] * 100_000
    with pytest.raises(GaveUp, match="no primary") as raised:
        await batcher.submit(op("a"), deadline_s=0.05)
    assert raised.value.in_doubt is False


async def test_one_attempt_without_an_answer_leaves_a_doubt_whatever_follows(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [Unanswered("lost"), *[Unsent("no primary")] * 100_000]
    with pytest.raises(GaveUp) as raised:
        await batcher.submit(op("a"), deadline_s=0.05)
    assert raised.value.in_doubt is True


async def test_nothing_is_handed_out_while_the_server_is_not_ready(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.ready_failures = 100_000
    with pytest.raises(GaveUp, match="away") as raised:
        await batcher.submit(op("a"), deadline_s=0.05)
    assert raised.value.in_doubt is False
    assert server.batches == []
    server.ready_failures = 1
    assert await batcher.submit(op("b")) == "b"


async def test_nobody_waits_for_a_server_that_has_been_away_for_as_long_as_they_would(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.ready_failures = 100_000
    with pytest.raises(GaveUp):
        await batcher.submit(op("a"), deadline_s=0.05)
    at_once = batcher.submit(op("b"), deadline_s=0.05)
    with pytest.raises(GaveUp, match="away") as raised:
        at_once.send(None)  # it awaits nothing
    assert raised.value.in_doubt is False
    patient = asyncio.create_task(batcher.submit(op("c"), deadline_s=60))
    await asyncio.sleep(0.01)
    assert not patient.done()
    server.ready_failures = 1
    assert await patient == "c"


async def test_a_server_that_is_back_is_noticed_while_nobody_waits(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.ready_failures = 100_000
    with pytest.raises(GaveUp):
        await batcher.submit(op("a"), deadline_s=0.05)
    server.ready_failures = 1

    def is_back() -> bool:
        try:
            batcher.check(0.05)
        except GaveUp:
            return False
        return True

    await until(is_back)
    assert await batcher.submit(op("b"), deadline_s=0.05) == "b"


async def test_an_unexpected_error_reaches_the_batch_and_the_next_one_is_sent(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    server.script = [RuntimeError("a bug")]
    with pytest.raises(RuntimeError, match="a bug"):
        await batcher.submit(op("a"))
    assert await batcher.submit(op("b")) == "b"


async def test_close_lets_every_waiting_caller_go(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    tasks = await submit_while_busy(server, batcher, op("a"))
    await batcher.close()
    first, a = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, GaveUp)
    assert first.in_doubt is True
    assert isinstance(a, GaveUp)
    assert a.in_doubt is False
    with pytest.raises(GaveUp):
        await batcher.submit(op("b"))


async def test_no_task_is_left_when_there_is_nothing_to_send(
    server: Server, batcher: Batcher[Op, str]
) -> None:
    await batcher.submit(op("a"))
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=DEADLINE_S)
        assert not pending


def test_pauses_grow_and_stay_under_two_seconds() -> None:
    longest = [max(pause_s(failures) for _ in range(200)) for failures in (1, 3, 6, 5000)]
    assert all(0 < earlier < later for earlier, later in pairwise(longest[:3]))
    assert 0 < longest[-1] <= 2.0
