"""Between taskiq's receiver and the engine: deliveries in, each back to be run, and the drain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from taskiq import AckableMessage
from taskiq.receiver import Receiver

from api_shared import JobBroker
from api_shared.client.formatter import DeliveredBody, current_delivery
from api_shared.job import new_job_id
from api_shared.testing import default_settings
from api_shared.testing.memory_broker import SilentConsumer
from api_shared.transport.consumer import Delivery
from api_shared.transport.message import decode
from api_shared.transport.topology import topology_of


class Engine:
    """Notes the deliveries that it is asked to run, and its drain."""

    def __init__(self) -> None:
        self.asked: list[Delivery] = []
        self.drained = False

    async def deliveries(self) -> AsyncGenerator[AckableMessage, None]:
        try:
            while True:
                yield AckableMessage.model_construct(data=delivered(), ack=lambda: None)
        finally:
            await asyncio.sleep(0)
            self.drained = True

    async def run(self, _task: Any) -> None:
        self.asked.append(current_delivery.get().delivery)


def delivered(**content: Any) -> DeliveredBody:
    message = {"task_id": new_job_id(), "task_name": "work", **content}
    body = json.dumps(message).encode()
    queue = topology_of("general", default_settings()).default
    delivery = Delivery((0, 0, 0), body, queue, {}, 0, SilentConsumer())
    return DeliveredBody.of(delivery, decode(body, max_bytes=len(body)), None)


HOSTILE = (
    "self", "cls", "_", "__", "args", "kwargs", "message", "target", "signature", "return",
    "", "a b", "\ud800", "x" * 1000,
)  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        *({"kwargs": {name: 1}} for name in HOSTILE),
        *({"labels": {name: "1"}} for name in (*HOSTILE, "ack_type", "timeout", "queue_name")),
        {"args": [[]] * 100},
        {"args": [1], "kwargs": {"_": 1, "__": {"__": None}}},
        {"labels": {"a": 1}, "labels_types": {"a": 99, "b": "x"}},
    ],
    ids=lambda content: ascii(content)[:60],
)
async def test_whatever_a_message_says_its_delivery_reaches_the_engine(
    content: dict[str, Any],
) -> None:
    broker = JobBroker("general")
    engine: Any = Engine()
    broker.engine = engine

    @broker.task(task_name="work")
    async def work(a: int = 1) -> int:
        return a

    body = delivered(**content)
    receiver = Receiver(broker, max_async_tasks=1, run_startup=False)
    message = AckableMessage.model_construct(data=body, ack=lambda: None)
    await asyncio.create_task(receiver.callback(message))
    assert engine.asked == [body.delivery]


async def test_the_drain_has_begun_when_taskiq_has_closed_what_it_listens_to() -> None:
    broker = JobBroker("general")
    engine: Any = Engine()
    broker.engine = engine
    listening = broker.listen()
    await anext(listening)
    await listening.aclose()
    assert engine.drained
