"""What every notifier does, the one over Redis and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import pytest
from pydantic import SecretStr

from api_shared.errors import InvalidOption
from api_shared.job import Progress, Status, new_job_id
from api_shared.notifier.events import JobEvent, StoredResult
from api_shared.notifier.memory import MemoryNotifier
from api_shared.notifier.protocol import Notifier, TextSubscription
from api_shared.notifier.redis.notifier import RedisNotifier
from api_shared.notifier.subscription import UNREAD_LIMIT
from api_shared.notifier.text_stream import Outgoing, Written
from api_shared.settings import Settings
from api_shared.testing.servers import running_servers
from api_shared.testing.waiting import until
from fixtures.private_valkey import be_patient


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with running_servers(only=["redis"]) as services:
        yield services.redis.url


@pytest.fixture(params=["memory", "redis"])
async def notifier(request: pytest.FixtureRequest) -> AsyncIterator[Notifier]:
    notifier: Notifier
    if request.param == "memory":
        notifier = MemoryNotifier()
    else:
        url = request.getfixturevalue("redis_url")
        notifier = RedisNotifier(Settings(redis_url=SecretStr(url), redis_prefix=uuid4().hex))
    await notifier.start()
    yield notifier
    await notifier.close()


def event(
    job_id: str,
    seq: int,
    *,
    kind: Literal["status", "progress"] = "status",
    owner: str | None = None,
) -> JobEvent:
    return JobEvent(
        kind=kind,
        job_id=job_id,
        seq=seq,
        status=Status.PROCESSING,
        task="ml.train",
        queue="training",
        owner=owner,
        correlation_id="c-1",
        attempt=2,
        at=datetime.now(UTC),
        progress=Progress(seq, 10, "fit", "épocha") if kind == "progress" else None,
        error="error: it broke",
    )


async def test_an_event_reaches_those_who_follow_the_job_its_owner_or_all(
    notifier: Notifier,
) -> None:
    job_id = new_job_id()
    told = [event(job_id, 1, owner="ann"), event(job_id, 2, kind="progress", owner="ann")]
    async with (
        notifier.subscribe(job_id=job_id) as of_job,
        notifier.subscribe(owner="ann") as of_owner,
        notifier.subscribe() as of_all,
    ):
        for each in told:
            notifier.publish(each)
        for subscription in (of_job, of_owner, of_all):
            assert [await subscription.next(30), await subscription.next(30)] == told


async def test_nobody_gets_the_events_of_another_job_or_owner(notifier: Notifier) -> None:
    mine, other = new_job_id(), new_job_id()
    async with (
        notifier.subscribe(job_id=mine) as of_job,
        notifier.subscribe(owner="ann") as of_owner,
    ):
        notifier.publish(event(other, 1, owner="bob"))
        notifier.publish(event(other, 2))
        notifier.publish(event(mine, 3, owner="ann"))
        for subscription in (of_job, of_owner):
            received = await subscription.next(30)
            assert received is not None
            assert received.seq == 3


async def test_all_who_follow_one_job_are_told(notifier: Notifier) -> None:
    job_id = new_job_id()
    async with notifier.subscribe(job_id=job_id) as first:
        async with notifier.subscribe(job_id=job_id) as second:
            notifier.publish(event(job_id, 1))
            assert (await first.next(30)) == (await second.next(30)) != None  # noqa: E711
        notifier.publish(event(job_id, 2))
        received = await first.next(30)
        assert received is not None
        assert received.seq == 2


async def test_of_progress_that_nobody_read_yet_only_the_latest_is_kept(
    notifier: Notifier,
) -> None:
    job_id = new_job_id()
    async with notifier.subscribe(job_id=job_id) as subscription:
        notifier.publish(event(job_id, 1))
        notifier.publish(event(job_id, 2, kind="progress"))
        notifier.publish(event(job_id, 3, kind="progress"))
        notifier.publish(event(job_id, 4))
        notifier.publish(event(job_id, 5, kind="progress"))
        received = [await subscription.next(30) for _ in range(3)]
        assert [each.seq for each in received if each] == [1, 4, 5]


async def test_without_news_next_returns_none_after_its_timeout(notifier: Notifier) -> None:
    loop = asyncio.get_running_loop()
    async with notifier.subscribe(job_id=new_job_id()) as subscription:
        started = loop.time()
        assert await subscription.next(0.05) is None
        assert 0.04 < loop.time() - started < 30


async def test_a_reader_that_is_too_slow_is_told_that_it_missed_something(
    notifier: Notifier,
) -> None:
    job_id = new_job_id()
    last = UNREAD_LIMIT + 5
    async with notifier.subscribe(job_id=job_id) as slow, notifier.subscribe(owner="ann") as quick:
        for seq in range(last):
            notifier.publish(event(job_id, seq))
        notifier.publish(event(job_id, last, owner="ann"))
        assert await quick.next(30) is not None
        assert await slow.next(30) is None
        oldest = await slow.next(30)
        assert oldest is not None
        assert oldest.seq == last + 1 - UNREAD_LIMIT


async def test_a_subscription_can_be_iterated(notifier: Notifier) -> None:
    job_id = new_job_id()
    seen = []
    async with notifier.subscribe(job_id=job_id) as subscription, asyncio.timeout(30):
        notifier.publish(event(job_id, 1))
        notifier.publish(event(job_id, 2))
        async for each in subscription:
            seen.append(each.seq)
            if each.seq == 2:
                break
    assert seen == [1, 2]


async def test_a_result_is_stored_with_its_event(notifier: Notifier) -> None:
    job_id = new_job_id()
    assert await notifier.load_result(job_id) is None
    async with notifier.subscribe(job_id=job_id) as subscription:
        notifier.publish(event(job_id, 1), StoredResult(job_id, b'{"x":1}'))
        assert await subscription.next(30) is not None
        assert await notifier.load_result(job_id) == b'{"x":1}'


async def test_a_request_to_cancel_reaches_whoever_runs_jobs(notifier: Notifier) -> None:
    job_id = new_job_id()
    requests = notifier.cancel_requests()
    heard = asyncio.ensure_future(anext(requests))

    def ask_until_heard() -> bool:
        notifier.publish_cancel(job_id)
        return heard.done()

    await until(ask_until_heard)
    assert heard.result() == job_id


async def test_one_cannot_follow_a_job_and_an_owner_at_once(notifier: Notifier) -> None:
    with pytest.raises(InvalidOption, match="must not be given with a job"):
        async with notifier.subscribe(job_id=new_job_id(), owner="ann"):
            pass


async def test_after_close_nothing_raises_and_nothing_is_waited_for(notifier: Notifier) -> None:
    job_id = new_job_id()
    await notifier.close()
    notifier.publish(event(job_id, 1), StoredResult(job_id, b"{}"))
    notifier.publish_cancel(job_id)


async def test_the_server_says_its_version(notifier: Notifier) -> None:
    assert await notifier.server_version()


# The text that a job writes.


def outgoing(job_id: str, claim_no: int, *parts: str) -> Outgoing:
    written = Outgoing(job_id, claim_no)
    for part in parts:
        written.add(part)
    return written


async def read(following: TextSubscription, characters: int) -> list[Written]:
    """What comes, until it is so many characters."""
    found: list[Written] = []
    async with asyncio.timeout(60):
        while sum(len(each.text) for each in found) < characters:
            found += await following.next(30)
    return found


async def test_a_text_is_read_in_order_by_whoever_comes_early_late_or_again(
    notifier: Notifier,
) -> None:
    job_id = new_job_id()
    async with notifier.follow_text(job_id) as early:
        assert await early.next(30) == []
        writing = outgoing(job_id, 1, "Hel", "lo, ")
        notifier.publish_text(writing)
        assert await read(early, 7) == [Written(1, 0, "Hello, ")]
        writing.add("épôcha 🦊")
        notifier.publish_text(writing)
        assert await read(early, 8) == [Written(1, 7, "épôcha 🦊")]
    for _ in range(2):
        async with notifier.follow_text(job_id) as late:
            found = await read(late, 15)
            assert "".join(each.text for each in found) == "Hello, épôcha 🦊"
    async with notifier.follow_text(new_job_id()) as other:
        assert await other.next(30) == []


async def test_what_is_told_twice_is_kept_once(notifier: Notifier) -> None:
    job_id = new_job_id()
    writing = outgoing(job_id, 1, "once")
    async with notifier.follow_text(job_id) as following:
        notifier.publish_text(writing)
        assert await read(following, 4) == [Written(1, 0, "once")]
        await until(lambda: writing.unsent() is None)
        notifier.publish_text(writing)
        writing.add("!")
        notifier.publish_text(writing)
        assert await read(following, 1) == [Written(1, 4, "!")]


async def test_only_the_text_of_the_highest_claim_is_kept(notifier: Notifier) -> None:
    job_id = new_job_id()
    first, second = outgoing(job_id, 1, "first"), outgoing(job_id, 2, "second")
    async with notifier.follow_text(job_id) as following:
        notifier.publish_text(first)
        assert await read(following, 5) == [Written(1, 0, "first")]
        notifier.publish_text(second)
        assert await read(following, 6) == [Written(2, 0, "second")]
        first.add(" of a worker that lost its claim")
        notifier.publish_text(first)
        second.add("!")
        notifier.publish_text(second)
        assert await read(following, 1) == [Written(2, 6, "!")]
    async with notifier.follow_text(job_id) as late:
        assert await read(late, 7) == [Written(2, 0, "second"), Written(2, 6, "!")]


async def test_a_reader_that_waits_for_text_can_be_woken(notifier: Notifier) -> None:
    async with notifier.follow_text(new_job_id()) as following:
        assert await following.next(60) == []
        waiting = asyncio.ensure_future(following.next(60))
        following.wake()
        async with asyncio.timeout(60):
            assert await waiting == []
