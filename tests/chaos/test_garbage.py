"""Whatever comes in a queue: each message is a job on record or a dead letter, never a crash."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api_shared.job import new_job_id
from api_shared.transport.message import Unreadable, decode
from fixtures.workers import LONG_S, Platform, until
from jobs import tasks
from jobs.broker import broker

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
label_names = st.sampled_from(
    ["priority", "delay", "at", "owner", "queue_name", "correlation_id", "timeout", "ack_type"]
)
job_ids = st.from_regex(r"[0-9a-f]{24}", fullmatch=True) | st.builds(new_job_id)
almost_jobs = st.fixed_dictionaries(
    {},
    optional={
        "task_id": job_ids | json_values,
        "task_name": st.sampled_from(["add", "no.such"]) | json_values,
        "labels": st.dictionaries(label_names | st.text(), json_values, max_size=4) | json_values,
        "labels_types": json_values,
        "args": st.lists(json_values, max_size=3) | json_values,
        "kwargs": st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values) | json_values,
    },
)
bodies = st.binary(max_size=500) | st.builds(
    lambda value: json.dumps(value).encode(), json_values | almost_jobs
)
headers = st.dictionaries(
    st.sampled_from(["x-accepted", "x-dead-reason", "x-dead-round", "x-dead-owner", "x-death"]),
    st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=300),
    max_size=3,
)
messages = st.lists(st.tuples(bodies, headers), min_size=10, max_size=60)


@pytest.fixture
def ever_sent() -> Counter[bytes]:
    """In all rounds of a test: one whose id came twice may be dead-lettered in a later round."""
    return Counter()


@settings(
    max_examples=20,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink takes minutes
    suppress_health_check=list(HealthCheck),  # servers are asked
)
@given(messages)
async def test_every_message_becomes_a_job_or_a_dead_letter(
    platform: Platform, ever_sent: Counter[bytes], sent: list[tuple[bytes, dict[str, Any]]]
) -> None:
    if not platform.workers:
        await platform.start(broker)
        await platform.worker("jobs.main:broker")
    (worker,) = platform.workers
    before = worker.children
    platform.management("DELETE", f"queues/{platform.name}/taskiq.dlq/contents")
    for body, given_headers in sent:
        publish(platform, body, given_headers)
    wanted = Counter(body for body, _ in sent)
    ever_sent.update(wanted)

    async def accounted_for() -> bool:
        dead = dead_bodies(platform)
        assert not dead - ever_sent, "a dead letter that nobody sent"
        return all([await is_recorded(platform, body) for body in wanted - dead])

    await until(accounted_for, what="each message is a job or a dead letter")
    assert worker.children == before, worker.log[-4000:]
    await until(lambda: holds_nothing(platform), what="no slot is held")
    assert await (await tasks.add.kiq(2, 3)).result(LONG_S) == 5


def publish(platform: Platform, body: bytes, given_headers: dict[str, Any]) -> None:
    message = {
        "properties": {"headers": given_headers},
        "routing_key": "taskiq",
        "payload": b64encode(body).decode(),
        "payload_encoding": "base64",
    }
    platform.management("POST", f"exchanges/{platform.name}/amq.default/publish", message)


def dead_bodies(platform: Platform) -> Counter[bytes]:
    asked = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "base64"}
    found = platform.management("POST", f"queues/{platform.name}/taskiq.dlq/get", asked)
    return Counter(b64decode(message["payload"]) for message in found)


async def is_recorded(platform: Platform, body: bytes) -> bool:
    try:
        job_id = decode(body, max_bytes=len(body)).job_id
    except Unreadable:
        return False
    return await platform.ledger.get(job_id) is not None


async def holds_nothing(platform: Platform) -> bool:
    (info,) = await platform.reported(platform.workers[0])
    return info.running == 0
