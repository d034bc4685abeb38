"""Queues, preference, confirms and acks, on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api_shared.client.bind.contract_from_signature import contract_from_signature
from api_shared.client.job_broker import JobBroker
from api_shared.errors import AcceptanceUnknown, Unroutable
from api_shared.job import Status, new_job_id
from api_shared.ledger.protocol import JobFilter
from api_shared.settings import Settings, load_settings
from api_shared.testing.servers.ports import free_ports
from api_shared.transport import consumer as consumer_module
from api_shared.transport.connection import Connection
from api_shared.transport.consumer import FULL_AFTER_S, Consumer, Delivery
from api_shared.transport.dead_letter_headers import DeadLetterHeaders
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.management import ManagementRefused
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import Topology, depth
from fixtures.workers import LONG_S, Platform, until
from jobs import tasks
from jobs.broker import broker

RANKED = ("critical", "taskiq", "low")


def publisher_of(platform: Platform) -> AmqpPublisher:
    publisher = platform.general.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)
    return publisher


async def publish(
    platform: Platform, queue: str, body: bytes, *, priority: int = 0, headers: Any = None
) -> None:
    """As any program might."""
    publisher = publisher_of(platform)
    await publisher._publish("taskiq", queue, body, priority=priority, headers=headers or {})


@asynccontextmanager
async def consuming(
    platform: Platform, *names: str, prefetch: int = 50
) -> AsyncIterator[tuple[Consumer, Connection]]:
    settings: Settings = load_settings().model_copy(update={"worker_prefetch": prefetch})
    topology: Topology = platform.general.runtime.topology
    consumer = Consumer(settings, topology.select(names))
    connection = Connection(
        settings.amqp_url,
        name="test",
        heartbeat_s=60,
        connect_deadline_s=60,
        on_open=consumer.use,
    )
    consumer.start()
    await connection.start(wait_s=60)
    try:
        yield consumer, connection
    finally:
        await consumer.close()
        await connection.close()


async def ready(platform: Platform, queue: str) -> int:
    async with publisher_of(platform).connection.side_channel() as channel:
        return await depth(channel, queue) or 0


async def take(consumer: Consumer, within_s: float = LONG_S) -> Delivery:
    async with asyncio.timeout(within_s):
        return await consumer.next()


# Preference.


async def test_queues_are_emptied_by_rank_then_priority_then_arrival(platform: Platform) -> None:
    rng = random.Random(7)
    sent = [
        (queue, rng.randint(0, 10), number) for number in range(40) for queue in RANKED
    ]  # more than the prefetch
    for queue, priority, number in sent:
        await publish(platform, queue, f"{number}".encode(), priority=priority)
    async with consuming(platform, prefetch=100) as (consumer, _):
        got = []
        for _ in sent:
            delivery = await take(consumer)
            got.append((delivery.queue.name, -delivery.order[1], int(delivery.body)))
            delivery.ack()
    wanted = sorted(sent, key=lambda each: (RANKED.index(each[0]), -each[1], each[2]))
    assert got == wanted


async def test_what_arrives_late_in_a_better_queue_is_next(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else it gives back what it holds, where the machine stands still for a second.
    monkeypatch.setattr(consumer_module, "FULL_AFTER_S", 60.0)
    for number in range(5):
        await publish(platform, "low", f"low {number}".encode())
    async with consuming(platform) as (consumer, _):
        (await take(consumer)).ack()
        await publish(platform, "critical", b"urgent")
        await until(lambda: consumer.buffered["critical"] == 1)
        delivery = await take(consumer)
        assert delivery.body == b"urgent"
        delivery.ack()
        assert (await take(consumer)).body == b"low 1"


async def test_a_queue_that_is_not_consumed_now_holds_up_nobody(platform: Platform) -> None:
    await publish(platform, "critical", b"waits for a slot")
    async with consuming(platform) as (consumer, _):
        first = await take(consumer)
        first.requeue()
        await consumer.stop_queues({"critical"})
        await publish(platform, "low", b"can run")
        assert (await take(consumer)).body == b"can run"
        await consumer.resume_queues({"critical"})
        assert (await take(consumer)).body == b"waits for a slot"


async def test_a_worker_with_one_slot_runs_all_of_critical_before_default_before_low(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    rng = random.Random(11)
    sent = [(queue, rng.randint(0, 10)) for _ in range(20) for queue in RANKED]
    for number, (queue, priority) in enumerate(sent):
        kicker = tasks.note.kicker().with_labels(queue_name=queue, priority=priority)
        await kicker.kiq(str(tmp_path), f"{queue}:{priority}:{number}")
    await platform.worker("jobs.main:broker", "--max-async-tasks", "1")
    notes = tmp_path / "notes"
    await until(lambda: notes.exists() and len(notes.read_text().split()) == len(sent))
    got = [word.split(":") for word in notes.read_text().split()]
    wanted = sorted(got, key=lambda e: (RANKED.index(e[0]), -int(e[1]), int(e[2])))
    assert got == wanted


# Which queues.


async def test_a_worker_consumes_the_queues_it_is_told_and_kiqs_to_all(
    platform: Platform,
) -> None:
    await platform.start(broker)
    low = [await tasks.add.kicker().with_labels(queue_name="low").kiq(n, 1) for n in range(3)]
    default = [await tasks.add.kiq(n, 1) for n in range(3)]
    worker = await platform.worker("jobs.main:broker", WORKER_QUEUES="low, keywords")
    assert [await handle.result(LONG_S) for handle in low] == [1, 2, 3]
    assert {await handle.status() for handle in default} == {Status.QUEUED}
    (info,) = await platform.reported(worker)
    assert set(info.queues) == {"low", "keywords"}
    await platform.worker("jobs.main:broker", WORKER_QUEUES="taskiq")
    assert [await handle.result(LONG_S) for handle in default] == [1, 2, 3]


async def test_an_unroutable_job_is_an_error_and_leaves_nothing(platform: Platform) -> None:
    await platform.start(broker)
    path = f"bindings/{platform.name}/e/taskiq/q/keywords/keywords"
    platform.management("DELETE", path)
    with pytest.raises(Unroutable, match="routes 'keywords' to no queue"):
        await tasks.add.kicker().with_labels(queue_name="keywords").kiq(1, 2)
    assert await platform.ledger.find(JobFilter()) == []
    await tasks.add.kiq(1, 2)
    assert len(await platform.ledger.find(JobFilter())) == 1


async def test_the_unroutable_of_many_at_once_are_told_apart(platform: Platform) -> None:
    await platform.start(broker)
    platform.management("DELETE", f"bindings/{platform.name}/e/taskiq/q/keywords/keywords")
    queues = ["keywords" if number % 3 == 0 else "low" for number in range(90)]
    kicks = [tasks.add.kicker().with_labels(queue_name=queue).kiq(1, 2) for queue in queues]
    ended = await asyncio.gather(*kicks, return_exceptions=True)
    failed = [isinstance(end, Unroutable) for end in ended]
    assert failed == [queue == "keywords" for queue in queues]
    assert len(await platform.ledger.find(JobFilter(), limit=200)) == 60
    assert await ready(platform, "low") == 60


# Confirms.


async def test_a_kiq_returns_at_once_while_rabbitmq_is_away_and_the_job_runs_later(
    platform: Platform,
) -> None:
    (port,) = free_ports(1)
    nowhere = f"amqp://guest:guest@127.0.0.1:{port}/"
    await platform.start(broker, RABBITMQ_URL=nowhere, CONNECT_DEADLINE_S="5")
    started = time.monotonic()
    handles = [await tasks.add.kiq(number, 1) for number in range(20)]
    assert time.monotonic() - started < 60, "each waited for a connection"
    assert {await handle.status() for handle in handles} == {Status.QUEUED}
    worker = await platform.worker("jobs.main:broker", RABBITMQ_URL=nowhere, CONNECT_DEADLINE_S="1")
    await until(lambda: "rabbitmq.unreachable" in worker.log)
    worker.terminate()
    assert await worker.wait() == 0
    await platform.worker("jobs.main:broker")
    assert [await handle.result(LONG_S) for handle in handles] == list(range(1, 21))


async def test_a_confirm_that_does_not_come_fails_the_publish_in_its_deadline(
    platform: Platform,
) -> None:
    """A server that accepts the connection's bytes and says nothing more: a frozen machine."""
    publisher = publisher_of(platform)
    channel = await publisher.connection.wait_open()
    impatient = AmqpPublisher(publisher.connection, platform.general.runtime.topology, deadline_s=2)
    frozen = asyncio.Event()

    async def swallow(_: Any) -> None:
        frozen.set()

    channel._on_confirm_frame = swallow  # type: ignore[method-assign, assignment]
    queue = platform.general.runtime.topology.queue("low")
    with pytest.raises(RabbitUnavailable, match="no confirm within 2 s"):
        await impatient.publish_dead_letter(queue, b"x", DeadLetterHeaders("error", "", queue.name))
    async with asyncio.timeout(LONG_S):
        await frozen.wait()


async def test_a_kiq_survives_a_connection_that_is_cut_under_it(platform: Platform) -> None:
    await platform.start(broker)
    await until(lambda: len(platform.connections()) >= 3)
    ended: list[Any] = []

    async def kiq_on() -> None:
        while True:
            ended.extend(
                await asyncio.gather(
                    *(tasks.add.kiq(1, 2) for _ in range(20)), return_exceptions=True
                )
            )

    running = asyncio.create_task(kiq_on())
    for _ in range(3):
        before = len(ended)
        await until(lambda: asyncio.to_thread(platform.cut_connections))
        await until(lambda count=before: len(ended) > count + 100)  # type: ignore[misc]
        await until(lambda: len(platform.connections()) >= 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert Counter(type(end).__name__ for end in ended) == {"JobHandle": len(ended)}
    found = await platform.ledger.find(JobFilter(), limit=100_000)
    assert {end.task_id for end in ended} <= {job.id for job in found}


# Acks.


async def test_acks_out_of_order_settle_each_message_once(platform: Platform) -> None:
    count = 2000
    for number in range(count):
        await publish(platform, "taskiq", str(number).encode())
    rng = random.Random(3)
    seen: Counter[bytes] = Counter()
    given_back: set[bytes] = set()
    async with consuming(platform, prefetch=200) as (consumer, connection):
        opened = connection.opened
        slots = asyncio.Semaphore(150)

        async def finish(delivery: Delivery) -> None:
            await asyncio.sleep(rng.random() * 0.02)
            if rng.random() < 0.1 and delivery.body not in given_back:
                given_back.add(delivery.body)
                delivery.requeue()
                return
            seen[delivery.body] += 1
            delivery.ack()
            if rng.random() < 0.1:
                delivery.ack()
            if rng.random() < 0.1:
                delivery.requeue()

        async def take_all() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    await slots.acquire()
                    group.create_task(finish(await consumer.next())).add_done_callback(
                        lambda _: slots.release()
                    )

        taking = asyncio.create_task(take_all())
        await until(lambda: len(seen) == count)
        await consumer.settle()
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert connection.opened == opened, "the channel stayed open"
    assert max(seen.values()) == 1
    assert await ready(platform, "taskiq") == 0


async def test_thousands_of_jobs_are_claimed_once_each(platform: Platform) -> None:
    await platform.start(broker)
    count = 2000
    await platform.worker("jobs.main:broker", LOG_LEVEL="INFO", RABBITMQ_HEARTBEAT_S="60")
    handles = []
    for start in range(0, count, 200):
        handles += await asyncio.gather(
            *(tasks.add.kiq(number, 0) for number in range(start, start + 200))
        )

    async def all_done() -> bool:
        counts = await platform.ledger.count("general")
        return not any(sum(by_status.values()) for by_status in counts.values())

    await until(all_done)
    jobs = await platform.ledger.find(JobFilter(), limit=count + 1)
    assert Counter((job.status, job.claim_no) for job in jobs) == {(Status.COMPLETED, 1): count}
    assert not any('"opened": 2' in worker.log for worker in platform.workers)


# Holding no more than is taken.


async def test_a_consumer_that_nobody_asks_gives_back_what_it_holds(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FULL_AFTER_S", 8.0)  # until it is seen to hold them
    for number in range(10):
        await publish(platform, "taskiq", str(number).encode())
    async with consuming(platform) as (consumer, _):
        (await take(consumer)).ack()
        await until(lambda: consumer.buffered["taskiq"] == 9)
        monkeypatch.setattr(consumer_module, "FULL_AFTER_S", FULL_AFTER_S)
        async with consuming(platform) as (other, _):
            got = []
            for _ in range(9):
                delivery = await take(other)
                got.append(int(delivery.body))
                delivery.ack()
        assert sorted(got) == list(range(1, 10))
        assert not consumer.buffered
        await publish(platform, "taskiq", b"10")
        delivery = await take(consumer)
        assert delivery.body == b"10"
        delivery.ack()


async def test_a_full_worker_leaves_to_others_what_it_has_not_started(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    await platform.worker("jobs.main:broker", "--max-async-tasks", "2")
    held = [await tasks.hold.kiq(str(tmp_path), f"h{number}") for number in range(2)]
    await until(lambda: len(list(tmp_path.glob("*.started"))) == 2)
    waiting = [await tasks.add.kiq(number, 1) for number in range(20)]
    await platform.worker("jobs.main:broker")
    assert [await handle.result(LONG_S) for handle in waiting] == list(range(1, 21))
    for number in range(2):
        (tmp_path / f"h{number}.go").touch()
    assert [await handle.result(LONG_S) for handle in held] == [1, 1]


# Losses.


async def test_a_worker_goes_on_after_its_connections_are_cut(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker")
    held = await tasks.hold.kiq(str(tmp_path), "held")
    await until((tmp_path / "held.started").exists)
    await until(lambda: len(platform.connections()) >= 5)
    await asyncio.to_thread(platform.cut_connections)
    handles = [await tasks.add.kiq(number, 1) for number in range(10)]
    assert [await handle.result(LONG_S) for handle in handles] == list(range(1, 11))
    (tmp_path / "held.go").touch()
    assert await held.result(LONG_S) == 1, "its claim stood"
    await until(lambda: worker.log.count('"event": "rabbitmq.lost"') >= 2)


async def test_a_worker_goes_on_after_its_queue_was_deleted(platform: Platform) -> None:
    await platform.start(broker)
    await platform.worker("jobs.main:broker")
    assert await (await tasks.add.kiq(1, 1)).result(LONG_S) == 2
    platform.management("DELETE", f"queues/{platform.name}/taskiq")

    async def works() -> bool:
        try:
            handle = await tasks.add.kiq(1, 2)
        except Unroutable:
            return False
        return await handle.result(LONG_S) == 3

    await until(works)


async def test_a_deleted_dead_letter_queue_is_declared_again_when_a_message_needs_it(
    platform: Platform,
) -> None:
    await platform.start(broker)
    await platform.worker("jobs.main:broker")
    assert await (await tasks.add.kiq(1, 1)).result(LONG_S) == 2
    platform.management("DELETE", f"queues/{platform.name}/taskiq.dlq")
    await publish(platform, "taskiq", b"no JSON")
    assert await (await tasks.add.kiq(1, 2)).result(LONG_S) == 3

    def dead() -> list[tuple[str, str]]:
        try:
            return platform.dead_letters()
        except ManagementRefused as refused:
            if refused.status != 404:  # else the queue is not declared again yet
                raise
            return []

    assert await until(dead) == [("unreadable", "no JSON")]


async def test_a_service_whose_queue_was_made_anew_with_other_arguments_says_so_and_waits(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"queues/{platform.name}/low"
    platform.management("DELETE", path)
    platform.management("PUT", path, {"durable": True, "arguments": {"x-max-priority": 3}})
    connection = publisher_of(platform).connection
    assert connection._connection is not None
    await connection._connection.close()
    await until(lambda: connection.failure is not None)
    assert connection.channel is None
    platform.management("DELETE", path)
    await until(lambda: connection.channel is not None)
    assert connection.failure is None
    said = [line for line in capsys.readouterr().err.splitlines() if "QueueMismatch" in line]
    assert sum('"level": "error"' in line for line in said) == 1


async def test_a_service_knows_contracts_and_needs_no_worker(platform: Platform) -> None:
    def elsewhere(number: int) -> int:
        return number

    client = JobBroker("general").know(
        contract_from_signature(elsewhere, "elsewhere", queue="ai_jobs")
    )
    await platform.start(client)
    contract = client.contract("elsewhere")
    job_id = new_job_id()
    await contract.kiq(contract.args(number=3), job_id=job_id, priority=4)
    (message,) = platform.queue_messages("ai_jobs")
    assert json.loads(message["payload"])["task_id"] == job_id
    assert message["properties"]["priority"] == 4
    assert message["properties"]["delivery_mode"] == 2
    assert message["properties"]["headers"]["x-accepted"] == 1


async def test_callers_who_go_away_know_the_ids_of_all_that_was_accepted(
    platform: Platform,
) -> None:
    await platform.start(broker)
    rng, known, unknown = random.Random(3), set(), 0
    for _ in range(60):
        try:
            async with asyncio.timeout(rng.uniform(0, 0.01)):
                known.add((await tasks.add.kiq(1, 2)).task_id)
        except AcceptanceUnknown as error:
            unknown += 1
            known.add(error.job_id)
        except TimeoutError:
            pass
    assert unknown > 0
    await asyncio.sleep(1)  # writes that were on their way
    jobs = await platform.general.runtime.ledger.find(JobFilter(), limit=1000)
    assert {job.id for job in jobs} <= known
