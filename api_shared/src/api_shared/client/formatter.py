"""How a job passes through taskiq's objects without being encoded twice."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from pydantic import PrivateAttr
from taskiq import BrokerMessage
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.message import TaskiqMessage

from api_shared.transport.consumer import Delivery
from api_shared.transport.message import JobMessage, decode


class PreparedMessage(BrokerMessage):
    """What taskiq hands to `kick`, with the arguments as Python values: they are encoded once."""

    _prepared: TaskiqMessage = PrivateAttr()

    @classmethod
    def of(cls, message: TaskiqMessage) -> PreparedMessage:
        prepared = cls(
            task_id=message.task_id, task_name=message.task_name, message=b"", labels=message.labels
        )
        prepared._prepared = message
        return prepared

    @property
    def prepared(self) -> TaskiqMessage:
        return self._prepared


class DeliveredBody(bytes):
    """
    A message's bytes that carry their delivery through taskiq's receiver.

    `slot` is the CPU slot of a synchronous task, None for others.
    """

    delivery: Delivery
    wire: JobMessage
    slot: Any

    @classmethod
    def of(cls, delivery: Delivery, wire: JobMessage, slot: Any) -> DeliveredBody:
        body = cls(delivery.body)
        body.delivery, body.wire, body.slot = delivery, wire, slot
        return body

    def let_go(self, _: object) -> None:
        """Whatever became of the receiver's task: what nobody settled is RabbitMQ's again."""
        self.delivery.requeue()
        if self.slot is not None:
            self.slot.release()


current_delivery: ContextVar[DeliveredBody] = ContextVar("current_delivery")
"""What this asyncio task of taskiq's receiver is about."""


class JobFormatter(TaskiqFormatter):
    """
    Between taskiq's messages and ours.

    `loads` runs inside the asyncio task that the receiver starts for a message: what it sets there
    is seen by that job alone.
    """

    def __init__(self, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        return PreparedMessage.of(message)

    def loads(self, message: bytes) -> TaskiqMessage:
        """Raises `Unreadable`."""
        if isinstance(message, DeliveredBody):
            wire = message.wire
            current_delivery.set(message)
            if (task := asyncio.current_task()) is not None:
                task.add_done_callback(message.let_go)
        else:
            wire = decode(message, max_bytes=self._max_bytes)
        return to_message(wire)


def to_message(wire: JobMessage) -> TaskiqMessage:
    """As taskiq, its middlewares and the task's `Context` see it."""
    return TaskiqMessage(
        task_id=wire.job_id,
        task_name=wire.task,
        labels=dict(wire.labels),
        args=wire.args,
        kwargs=wire.kwargs,
    )
