"""Messages whose properties the driver cannot decode, on a real RabbitMQ."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime

from bson import ObjectId

from api_shared.client.dead_letters.dead_letter import Kind, dead_letter_of
from api_shared.client.dead_letters.reader import DeadLetterReader
from api_shared.job import Status
from api_shared.transport.publisher import AmqpPublisher
from fixtures.raw_messages import (
    HEADERS,
    PRIORITY,
    TIMESTAMP,
    UNREADABLE,
    entry,
    publish_raw,
    table,
)
from fixtures.workers import LONG_S, Platform, until
from jobs import tasks
from jobs.broker import broker


async def test_each_is_a_dead_letter_and_the_jobs_behind_them_run(platform: Platform) -> None:
    await platform.start(broker)
    for kind, (flags, properties) in UNREADABLE.items():
        await publish_raw(platform.amqp_url, "taskiq", kind.encode(), flags, properties)
    handles = [await tasks.add.kiq(number, 1) for number in range(5)]
    worker = await platform.worker("jobs.main:broker")
    assert [await handle.result(LONG_S) for handle in handles] == list(range(1, 6))
    await until(lambda: len(platform.dead_letters()) == len(UNREADABLE))
    assert sorted(platform.dead_letters()) == sorted(("unreadable", kind) for kind in UNREADABLE)
    assert "rabbitmq.lost" not in worker.log


async def test_a_routing_key_that_is_no_text_stops_nobody(platform: Platform) -> None:
    await platform.start(broker)
    fanout = f"bindings/{platform.name}/e/amq.fanout/q/taskiq"
    platform.management("POST", fanout, {"routing_key": ""})
    await publish_raw(platform.amqp_url, b"\xff", b"no JSON", 0, b"", exchange="amq.fanout")
    handle = await tasks.add.kiq(1, 2)
    worker = await platform.worker("jobs.main:broker")
    assert await handle.result(LONG_S) == 3
    assert platform.dead_letters() == [("unreadable", "no JSON")]
    assert "rabbitmq.lost" not in worker.log


async def test_its_dead_letter_says_why_and_keeps_what_could_be_read(platform: Platform) -> None:
    await platform.start(broker)
    headers = table(
        entry(b"half", b"d", struct.pack(">d", 1e300)),
        entry(b"raw", b"S", table(b"\xff")),
    )
    flags = HEADERS | PRIORITY | TIMESTAMP
    body = b'{"text": "\xc3\xbc"}'
    raw = headers + b"\x07" + struct.pack(">Q", 2**63)
    await publish_raw(platform.amqp_url, "taskiq", body, flags, raw)
    await platform.worker("jobs.main:broker")
    await until(lambda: len(platform.queue_messages("taskiq.dlq")) == 1)
    publisher = platform.general.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)
    async with DeadLetterReader.open(
        publisher.connection, platform.general.runtime.topology.queues
    ) as reader:
        [message] = [message async for message in reader.walk()]
        dead_letter = await dead_letter_of(message, platform.ledger)
    assert message.body == body
    assert message.priority == 7
    assert (message.headers["half"], message.headers["raw"]) == (1e300, b"\xff")
    assert (dead_letter.kind, dead_letter.headers.reason) == (Kind.GARBAGE, "unreadable")
    assert dead_letter.headers.detail.startswith("its properties cannot be decoded: ")


async def test_such_a_message_in_a_dead_letter_queue_hides_no_other(platform: Platform) -> None:
    for kind, (flags, properties) in UNREADABLE.items():
        await publish_raw(platform.amqp_url, "taskiq.dlq", kind.encode(), flags, properties)
    publisher = platform.general.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)
    async with DeadLetterReader.open(
        publisher.connection, platform.general.runtime.topology.queues
    ) as reader:
        found = [message.body.decode() async for message in reader.walk()]
    assert found == list(UNREADABLE)
    assert publisher.connection.opened == 1


async def test_moved_back_to_its_queue_a_good_job_of_them_runs(platform: Platform) -> None:
    await platform.start(broker)
    job_id = str(ObjectId())
    message = {
        "task_id": job_id,
        "task_name": tasks.add.task_name,
        "labels": {},
        "args": [1, 2],
        "kwargs": {},
    }
    in_microseconds = struct.pack(">Q", int(datetime.now(UTC).timestamp() * 1e6))
    body = json.dumps(message).encode()
    await publish_raw(platform.amqp_url, "taskiq", body, TIMESTAMP, in_microseconds)
    await platform.worker("jobs.main:broker")
    await until(lambda: platform.dead_letters() == [("unreadable", body.decode())])
    publisher = platform.general.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)
    topology = platform.general.runtime.topology
    async with DeadLetterReader.open(publisher.connection, topology.queues) as reader:
        [dead] = [dead async for dead in reader.walk()]
        await publisher.put_back(dead.queue, dead.body, headers=dict(dead.headers), priority=0)
        await reader.remove(dead)

    async def has_run() -> bool:
        job = await platform.ledger.get(job_id)
        return job is not None and job.status is Status.COMPLETED

    await until(has_run)
