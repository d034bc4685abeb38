"""No message stops a worker: each ends as a dead letter with its reason, and the next job runs."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api_shared.errors import JobFailed
from api_shared.job import Job, Reason, Status, new_job_id
from api_shared.ledger.change import NowPlus
from api_shared.ledger.operations import Insert
from api_shared.transport.publisher import AmqpPublisher
from fixtures.workers import LONG_S, Platform, until
from jobs import tasks
from jobs.broker import broker


async def publish(platform: Platform, body: bytes, headers: Any = None, priority: int = 0) -> None:
    """As any program might, to the default queue."""
    publisher = platform.general.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)
    await publisher._publish("taskiq", "taskiq", body, priority=priority, headers=headers or {})


def message(task: str, job_id: str | None = None, **kwargs: Any) -> bytes:
    """As a plain taskiq client writes it."""
    body = {
        "task_id": job_id or new_job_id(),
        "task_name": task,
        "labels": {},
        "args": [],
        "kwargs": kwargs,
    }
    return json.dumps(body).encode()


async def all_completed(platform: Platform, handles: list[Any]) -> bool:
    return all([(await platform.job(h)).status is Status.COMPLETED for h in handles])


async def test_poison_ends_in_the_dead_letters_while_a_hundred_jobs_complete(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    forgotten, unknown = new_job_id(), new_job_id()
    poison: dict[str, tuple[bytes, dict[str, Any]]] = {
        "not JSON": (b"\xff\x00garbage", {}),
        "empty": (b"", {}),
        "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00", {}),
        "no object": (b"[1, 2]", {}),
        "no task": (b"{}", {}),
        "deep": (b'{"task_name":"add","kwargs":' + b'{"a":' * 90 + b"1" + b"}" * 91, {}),
        "very deep": (b"[" * 100_000, {}),
        "huge number": (message("add", a=1, b=2).replace(b"2}", b"9" * 5000 + b"}"), {}),
        "uuid": (message("add", "5f0c5ab2-22b3-4c4e-9c4c-000000000000", a=1, b=2), {}),
        "too large": (message("length", text="x" * 1_300_000), {}),
        "unknown task": (message("nobody", unknown), {}),
        "wrong arguments": (message("add", a="x", b=2), {}),
        "bad labels": (message("add", a=1, b=2).replace(b'"labels": {}', b'"labels": 7'), {}),
        "forgotten": (message("add", forgotten, a=1, b=2), {"x-accepted": 1}),
        "odd headers": (b"odd", {"when": datetime.now(UTC), "n": 2**40, "l": [1, {"f": 1.5}]}),
        "big headers": (b"big", {"x-death": "h" * 130_900}),
    }
    worker = await platform.worker("jobs.main:broker")
    handles = []
    for number, (body, headers) in enumerate(poison.values()):
        handles += [await tasks.add.kiq(number, each) for each in range(7)]
        await publish(platform, body, headers, priority=number % 11)
    assert len(handles) > 100

    await until(lambda: all_completed(platform, handles))

    def dead_lettered() -> list[tuple[str, str]] | None:
        found = platform.dead_letters()
        return found if len(found) >= len(poison) else None

    dead = await until(dead_lettered, what=f"{len(poison)} dead letters")
    assert Counter(reason for reason, _ in dead) == {
        Reason.UNREADABLE: 10,
        Reason.INVALID_JOB_ID: 1,
        Reason.TOO_LARGE: 1,
        Reason.UNKNOWN_TASK: 1,
        Reason.INVALID_ARGUMENTS: 1,
        Reason.FORGOTTEN: 1,
    } | {Reason.UNREADABLE: len(poison) - 5}
    assert worker.log.count("worker.started") == 1, "it went on in one process"
    assert await (await tasks.add.kiq(1, 2)).result(LONG_S) == 3


async def test_a_foreign_message_becomes_a_job(platform: Platform) -> None:
    await platform.start(broker)
    job_id = new_job_id()
    await publish(platform, message("add", job_id, a=2, b=3))
    await platform.worker("jobs.main:broker")
    await until(lambda: platform.ledger.get(job_id))
    assert await broker.handle(job_id, broker.contract("add")).result(LONG_S) == 5
    job = await platform.job(job_id)
    assert (job.queue, job.claim_no) == ("taskiq", 1)
    await publish(platform, message("add", job_id, a=2, b=3))
    assert await (await tasks.add.kiq(1, 2)).result(LONG_S) == 3
    assert (await platform.job(job_id)).claim_no == 1, "delivered twice, run once"


async def test_a_label_that_taskiqs_receiver_would_obey_does_not_hurt(platform: Platform) -> None:
    await platform.start(broker)
    body = json.loads(message("add", a=2, b=3))
    body["labels"] = {"ack_type": "never heard of", "timeout": "soon", "delay": "none"}
    await publish(platform, json.dumps(body).encode())
    body["task_id"], body["labels"] = new_job_id(), {"ack_type": "x", "timeout": "-1"}
    await publish(platform, json.dumps(body).encode())
    await platform.worker("jobs.main:broker", "--max-async-tasks", "1")
    assert await (await tasks.add.kiq(1, 2)).result(LONG_S) == 3
    await until(lambda: platform.ledger.get(body["task_id"]))
    assert await broker.handle(body["task_id"]).result(LONG_S) == 5


async def test_a_known_job_of_a_task_this_worker_lacks_fails_once_with_the_reason(
    platform: Platform,
) -> None:
    await platform.start(broker)
    now = datetime.now(UTC)
    job = Job(new_job_id(), "gone", "general", "taskiq", "{}", Status.QUEUED, 1, now)
    await platform.ledger.apply(Insert(job, NowPlus(60)))
    await publish(platform, message("gone", job.id), {"x-accepted": 1})
    await platform.worker("jobs.main:broker")
    with pytest.raises(JobFailed, match=r"unknown_task.*no task named 'gone' in this worker"):
        await platform.general.handle(job.id).result(LONG_S)

    async def is_settled() -> bool:
        return (await platform.job(job.id)).failure_told

    await until(is_settled)
    assert [reason for reason, _ in platform.dead_letters()] == [Reason.UNKNOWN_TASK]
