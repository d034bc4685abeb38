"""Redis may vanish: what the notifier does while it is killed, frozen, emptied or restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
import uvloop
from pydantic import SecretStr
from redis.asyncio import Redis

from api_shared.client.follow.watch import watch
from api_shared.errors import ServerError
from api_shared.job import Entry, Job, Status, new_job_id
from api_shared.ledger.change import NowPlus
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Claim, Complete, Insert
from api_shared.notifier.events import JobEvent, StoredResult, status_event
from api_shared.notifier.protocol import TextSubscription
from api_shared.notifier.redis import publisher, pubsub
from api_shared.notifier.redis.notifier import RedisNotifier
from api_shared.notifier.text_stream import Outgoing, Written
from api_shared.settings import InvalidSettings, Settings
from api_shared.testing.waiting import until
from fixtures.private_valkey import PATIENCE_S, PrivateValkey, be_patient

RARELY_S = 600.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[PrivateValkey]:
    server = PrivateValkey(tmp_path)
    server.start()
    yield server
    server.kill()


def settings_for(url: str, **values: Any) -> Settings:
    return Settings(redis_url=SecretStr(url), redis_prefix=f"test:{uuid4().hex[:8]}", **values)


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[RedisNotifier]:
    notifier = RedisNotifier(settings)
    await notifier.start()
    try:
        yield notifier
    finally:
        await notifier.close()


@pytest.fixture
async def notifier(valkey: PrivateValkey) -> AsyncIterator[RedisNotifier]:
    async with started(settings_for(valkey.url)) as notifier:
        yield notifier


@pytest.fixture
async def admin(valkey: PrivateValkey) -> AsyncIterator[Any]:
    async with Redis.from_url(valkey.url, protocol=2) as client:
        yield client


def event(job_id: str, seq: int, status: Status = Status.QUEUED) -> JobEvent:
    return JobEvent("status", job_id, seq, status, "ml.train", "training", owner="ann")


class Life:
    """A job that lives in a ledger, told or not."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.id = new_job_id()
        self._token = uuid4().hex

    async def begin(self) -> JobEvent:
        now = datetime.now(UTC)
        job = Job(self.id, "ml.train", "ml", "training", "{}", Status.QUEUED, 0, now)
        await self.ledger.apply(Insert(job, NowPlus(30)))
        return await self._event()

    async def run(self) -> JobEvent:
        await self.ledger.apply(Claim(self.id, self._token, "w", lease_s=30))
        return await self._event()

    async def end(self) -> JobEvent:
        job = await self.ledger.get(self.id)
        assert job is not None
        done = Complete(self.id, self._token, job.seq + 1, result_json="1", retention_s=60)
        assert await self.ledger.apply(done)
        return await self._event()

    async def history(self) -> list[Entry]:
        job = await self.ledger.get(self.id)
        assert job is not None
        return list(job.history)

    async def _event(self) -> JobEvent:
        job = await self.ledger.get(self.id)
        assert job is not None
        return status_event(job)


async def hears(notifier: RedisNotifier, timeout_s: float = 30) -> None:
    """Wait until an event goes all the way through Redis and back."""
    job_id = new_job_id()
    seqs = iter(range(100_000))
    async with notifier.subscribe(job_id=job_id) as subscription, asyncio.timeout(timeout_s):
        while True:
            notifier.publish(event(job_id, next(seqs)))
            if await subscription.next(0.1) is not None:
                return


async def test_a_watcher_sees_the_end_that_came_while_redis_was_dead(
    valkey: PrivateValkey, notifier: RedisNotifier
) -> None:
    life = Life()
    await life.begin()
    events = watch(life.id, ledger=life.ledger, notifier=notifier, reread_s=RARELY_S)
    async with asyncio.timeout(60):
        seen = [await anext(events)]
        notifier.publish(await life.run())
        seen.append(await anext(events))
        valkey.kill()
        notifier.publish(await life.end())
        seen += [each async for each in events]
        valkey.start()
    assert [each.seq for each in seen] == [entry.seq for entry in await life.history()]
    assert seen[-1].status is Status.COMPLETED


async def test_a_text_that_is_written_while_redis_is_dead_is_told_when_it_is_back(
    valkey: PrivateValkey, notifier: RedisNotifier
) -> None:
    job_id = new_job_id()
    outgoing = Outgoing(job_id, 1)
    async with notifier.follow_text(job_id) as following, asyncio.timeout(60):
        outgoing.add("before, ")
        notifier.publish_text(outgoing)
        told = await texts(following, 8)
        valkey.kill()
        for word in ("while, ", "it was away, "):
            outgoing.add(word)
            notifier.publish_text(outgoing)
        await until(lambda: "publisher" in notifier._publisher._outage._noticed_by)
        valkey.start()
        told += await texts(following, 20)  # with no word of the writer's
        outgoing.add("after")
        notifier.publish_text(outgoing)
        told += await texts(following, 5)
    assert told == "before, while, it was away, after"


async def texts(following: TextSubscription, characters: int) -> str:
    found = ""
    while len(found) < characters:
        found += "".join(written.text for written in await following.next(1))
    return found


async def test_a_server_that_takes_no_text_keeps_no_event_from_being_told(
    valkey: PrivateValkey, notifier: RedisNotifier, admin: Any
) -> None:
    await admin.acl_setuser("default", enabled=True, nopass=True, commands=["-eval"])
    job_id = new_job_id()
    outgoing = Outgoing(job_id, 1)
    outgoing.add("kept")
    async with notifier.subscribe(job_id=job_id) as events:
        notifier.publish_text(outgoing)
        notifier.publish(event(job_id, 1))
        assert await events.next(30) is not None
    assert outgoing.unsent() == Written(1, 0, "kept")


async def test_a_text_expires_after_its_last_piece(valkey: PrivateValkey, admin: Any) -> None:
    async with started(settings_for(valkey.url, text_ttl_s=500)) as notifier:
        outgoing = Outgoing(new_job_id(), 1)
        outgoing.add("soon gone")
        notifier.publish_text(outgoing)
        await until(lambda: outgoing.unsent() is None)
    (key,) = await admin.keys("*:text:*")
    assert 0 < await admin.pttl(key) <= 500_000


async def test_a_watcher_goes_on_after_a_restart_without_waiting_for_its_next_look(
    valkey: PrivateValkey, notifier: RedisNotifier
) -> None:
    life = Life()
    await life.begin()
    events = watch(life.id, ledger=life.ledger, notifier=notifier, reread_s=RARELY_S)
    async with asyncio.timeout(60):
        seen = [await anext(events)]
        valkey.kill()
        pending = asyncio.ensure_future(anext(events))
        valkey.start()
        await hears(notifier)
        notifier.publish(await life.run())
        seen.append(await pending)
        notifier.publish(await life.end())
        seen += [each async for each in events]
    assert [each.status for each in seen] == ["queued", "processing", "completed"]


async def test_who_subscribed_while_redis_was_away_looks_again_when_it_is_back(
    valkey: PrivateValkey, notifier: RedisNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waited for the server would be let go when the next connection fails.
    monkeypatch.setattr(pubsub, "pause_s", lambda *_: 6.0)
    life = Life()
    await life.begin()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60), notifier.subscribe() as other:
        valkey.kill()
        assert await other.next(60) is None
        started_at = loop.time()
        events = watch(life.id, ledger=life.ledger, notifier=notifier, reread_s=RARELY_S)
        assert (await anext(events)).seq == 0
        assert loop.time() - started_at < 5, "it waited for the server"
        rest = asyncio.ensure_future(anext(events))
        await other.next(0.2)
        await life.run()
        assert not rest.done()
        valkey.start()
        assert (await rest).status is Status.PROCESSING


async def test_a_server_that_swallows_everything_is_noticed(
    valkey: PrivateValkey, notifier: RedisNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the deadlines are what is tested
    job_id = new_job_id()
    async with notifier.subscribe(job_id=job_id) as subscription:
        valkey.freeze()
        try:
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            notifier.publish(event(job_id, 1))
            assert await notifier.load_result(job_id) is None
            assert await subscription.next(60) is None
            assert loop.time() - started_at < 30
        finally:
            valkey.thaw()
        await hears(notifier)


async def test_all_watchers_of_a_process_share_one_connection(
    notifier: RedisNotifier, admin: Any
) -> None:
    async with AsyncExitStack() as stack:
        watchers = [
            (job_id, await stack.enter_async_context(notifier.subscribe(job_id=job_id)))
            for job_id in (new_job_id() for _ in range(50))
        ]
        listening = [client for client in await admin.client_list() if int(client["sub"])]
        assert [int(client["sub"]) for client in listening] == [50]
        for seq, (job_id, _) in enumerate(watchers):
            notifier.publish(event(job_id, seq))
        for seq, (_, subscription) in enumerate(watchers):
            received = await subscription.next(30)
            assert received is not None
            assert received.seq == seq

    async def nobody_listens() -> bool:
        return not [client for client in await admin.client_list() if int(client["sub"])]

    await until(nobody_listens)


async def test_watchers_that_come_and_go_at_once_are_all_subscribed(
    notifier: RedisNotifier,
) -> None:
    job_ids = [new_job_id() for _ in range(5)]
    heard = 0

    async def watch_shortly(number: int) -> None:
        nonlocal heard
        job_id = job_ids[number % 5]
        async with notifier.subscribe(job_id=job_id) as subscription:
            notifier.publish(event(job_id, number))
            while (received := await subscription.next(30)) is not None:
                if received.seq == number:
                    heard += 1
                    return

    await asyncio.gather(*(watch_shortly(number) for number in range(300)))
    assert heard == 300


async def test_a_connection_that_is_cut_is_opened_again_and_its_watchers_told(
    notifier: RedisNotifier, admin: Any
) -> None:
    job_id = new_job_id()
    with structlog.testing.capture_logs() as logs:
        async with notifier.subscribe(job_id=job_id) as subscription:
            await admin.client_kill_filter(_type="pubsub")
            assert await subscription.next(30) is None
            await hears(notifier)
    assert logs == []


async def test_requests_to_cancel_are_heard_again_after_a_restart(
    valkey: PrivateValkey, notifier: RedisNotifier
) -> None:
    before, after = new_job_id(), new_job_id()
    requests = notifier.cancel_requests()

    async def next_request(job_id: str) -> None:
        heard = asyncio.ensure_future(anext(requests))
        while heard is not None:
            notifier.publish_cancel(job_id)
            done, _ = await asyncio.wait([heard], timeout=0.1)
            if done and heard.result() == job_id:
                return
            if done:
                heard = asyncio.ensure_future(anext(requests))

    async with asyncio.timeout(60):
        await next_request(before)
        valkey.kill()
        valkey.start()
        await next_request(after)


async def test_telling_while_redis_is_dead_returns_at_once_and_is_logged_once(
    valkey: PrivateValkey, notifier: RedisNotifier
) -> None:
    with structlog.testing.capture_logs() as logs:
        await hears(notifier)
        valkey.kill()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        for seq in range(20_000):
            notifier.publish(event("0" * 24, seq), StoredResult("0" * 24, b"{}"))
        assert loop.time() - started_at < 20
        async with notifier.subscribe() as subscription:
            await subscription.next(0.5)
            assert await notifier.load_result("0" * 24) is None
            with pytest.raises(ServerError, match="REDIS_URL"):
                await notifier.server_version()
            valkey.start()
            await hears(notifier)
        await until(lambda: any(log["event"] == "notifier.reachable" for log in logs))
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("notifier.unreachable", "warning"),
        ("notifier.reachable", "info"),
    ]


async def test_what_is_told_while_redis_is_away_is_bounded_and_the_newest_arrives(
    valkey: PrivateValkey, notifier: RedisNotifier
) -> None:
    job_id = new_job_id()
    async with notifier.subscribe(job_id=job_id) as subscription:
        valkey.kill()
        notifier.publish(event(job_id, 0))
        assert await subscription.next(30) is None
        for seq in range(1, 12_001):
            notifier.publish(event("0" * 24, seq))
        valkey.start()
        await hears(notifier)
        notifier.publish(event(job_id, 12_001))
        async with asyncio.timeout(30):
            async for received in subscription:
                assert received.seq == 12_001
                break


async def test_a_server_without_memory_left_is_an_outage_of_results_only(tmp_path: Path) -> None:
    server = PrivateValkey(tmp_path, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    server.start()
    job_id = new_job_id()
    try:
        with structlog.testing.capture_logs() as logs:
            async with (
                started(settings_for(server.url)) as notifier,
                notifier.subscribe(job_id=job_id) as subscription,
            ):
                for seq in range(3):
                    notifier.publish(event(job_id, seq), StoredResult(job_id, b"{}"))
                    assert await subscription.next(30) is not None
        assert [log["event"] for log in logs] == ["notifier.unreachable"]
        assert "maxmemory" in logs[0]["error"]
    finally:
        server.kill()


async def test_an_event_that_cannot_be_encoded_spoils_nothing_else(
    notifier: RedisNotifier,
) -> None:
    job_id = new_job_id()
    bad = JobEvent("status", job_id, 1, Status.QUEUED, "t", "q", owner="\ud800")
    async with notifier.subscribe(job_id=job_id) as subscription:
        notifier.publish(bad)
        notifier.publish_cancel("\ud800")
        notifier.publish(event(job_id, 2))
        received = await subscription.next(30)
    assert received is not None
    assert received.seq == 2


async def test_garbage_on_a_channel_is_passed_over(valkey: PrivateValkey, admin: Any) -> None:
    settings = settings_for(valkey.url)
    job_id = new_job_id()
    channel = f"{settings.redis_prefix}:job:{job_id}"
    good = event(job_id, 7)
    garbage = [b"", b"\xff", b"{}", b"[[", b'"x"', b'{"v":99}', good.to_json().replace("7", "x")]
    async with started(settings) as notifier:
        async with notifier.subscribe(job_id=job_id) as subscription:
            for payload in garbage:
                await admin.publish(channel, payload)
            await admin.publish(channel, good.to_json())
            assert await subscription.next(30) == good
        requests = notifier.cancel_requests()
        heard = asyncio.ensure_future(anext(requests))

        async def asked() -> bool:
            await admin.publish(f"{settings.redis_prefix}:cancel", b"not a job id")
            await admin.publish(f"{settings.redis_prefix}:cancel", job_id.upper())
            return heard.done()

        await until(asked)
        assert heard.result() == job_id


async def test_a_result_is_json_that_expires(valkey: PrivateValkey, admin: Any) -> None:
    settings = settings_for(valkey.url, result_ttl_s=100)
    job_id = new_job_id()
    async with started(settings) as notifier:
        notifier.publish(event(job_id, 1), StoredResult(job_id, b'{"x":1}'))
        key = f"{settings.redis_prefix}:result:{job_id}"

        async def is_stored() -> bool:
            return await notifier.load_result(job_id) is not None

        await until(is_stored)
        assert await admin.get(key) == b'{"x":1}'
        assert 90 < await admin.ttl(key) <= 100
        await admin.flushall()
        assert await notifier.load_result(job_id) is None
        await hears(notifier)


async def test_close_tells_what_is_left_and_leaves_nothing_behind(
    valkey: PrivateValkey, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "FLUSH_DEADLINE_S", PATIENCE_S)
    settings = settings_for(valkey.url)
    job_id = new_job_id()
    tasks_before = asyncio.all_tasks()
    async with started(settings) as listening, listening.subscribe(job_id=job_id) as subscription:
        async with started(settings) as telling, telling.subscribe(job_id=new_job_id()):
            for seq in range(2000):
                telling.publish(event("0" * 24, seq))
            telling.publish(event(job_id, 1))
        assert await subscription.next(30) is not None
    assert asyncio.all_tasks() <= tasks_before

    async def only_the_admin_is_left() -> bool:
        return len(await admin.client_list()) == 1

    await until(only_the_admin_is_left)


@pytest.mark.parametrize("way", ["dead", "frozen"])
async def test_close_does_not_wait_for_a_server_that_is_gone(
    valkey: PrivateValkey, way: str
) -> None:
    loop = asyncio.get_running_loop()
    async with started(settings_for(valkey.url)) as notifier:
        await hears(notifier)
        async with notifier.subscribe():
            if way == "dead":
                valkey.kill()
            else:
                valkey.freeze()
            for seq in range(100):
                notifier.publish(event("0" * 24, seq))
        closing_at = loop.time()
    assert loop.time() - closing_at < 15, "the last round had its whole deadline"
    if way == "frozen":
        valkey.thaw()


async def test_a_process_that_listens_to_nothing_has_no_listening_connection(
    notifier: RedisNotifier, admin: Any
) -> None:
    job_id = new_job_id()
    notifier.publish(event(job_id, 1), StoredResult(job_id, b"{}"))

    async def is_stored() -> bool:
        return await notifier.load_result(job_id) is not None

    await until(is_stored)
    assert len(await admin.client_list()) <= 3  # the admin's, the publisher's and load_result's


async def test_no_password_is_logged_or_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = PrivateValkey(tmp_path, "--requirepass", "right")
    server.start()
    caplog.set_level(logging.DEBUG)
    url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
    try:
        with structlog.testing.capture_logs() as logs:
            async with started(settings_for(url)) as notifier, notifier.subscribe() as subscription:
                notifier.publish(event(new_job_id(), 1))
                await subscription.next(0.2)
                await notifier.load_result("0" * 24)
                with pytest.raises(ServerError) as refused:
                    await notifier.server_version()
                await until(lambda: bool(logs))
        assert "hunter2" not in f"{logs}{caplog.text}{refused.value}"
        with pytest.raises(InvalidSettings, match="REDIS_URL") as invalid:
            RedisNotifier(settings_for("redis://user:hunter2#x@host/0"))
        assert "hunter2" not in str(invalid.value)
    finally:
        server.kill()


def test_it_works_on_uvloop(valkey: PrivateValkey) -> None:
    async def scenario() -> None:
        async with started(settings_for(valkey.url)) as notifier:
            await hears(notifier)
            async with notifier.subscribe() as subscription:
                valkey.kill()
                assert await subscription.next(30) is None
                valkey.start()
                await hears(notifier)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
