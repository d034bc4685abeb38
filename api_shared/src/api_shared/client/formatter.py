"""The formatter between taskiq's messages and those of this platform: no job is encoded twice."""

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
    """The message that taskiq passes to `kick`, with the arguments as Python values."""

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
    The bytes of a message, which take their delivery through taskiq's receiver.

    `slot` is the CPU slot of a synchronous task, None for others.
    """

    delivery: Delivery
    job_message: JobMessage
    slot: Any

    @classmethod
    def of(cls, delivery: Delivery, job_message: JobMessage, slot: Any) -> DeliveredBody:
        body = cls(delivery.body)
        body.delivery, body.job_message, body.slot = delivery, job_message, slot
        return body

    def release(self, _: object) -> None:
        """Called when the receiver's task has ended: requeue the delivery if it is not settled."""
        self.delivery.requeue()
        if self.slot is not None:
            self.slot.release()


current_delivery: ContextVar[DeliveredBody] = ContextVar("current_delivery")
"""The delivery of this asyncio task of taskiq's receiver."""


class JobFormatter(TaskiqFormatter):
    """
    Turns taskiq's messages into those of this platform, and back.

    `loads` runs inside the asyncio task that the receiver starts for a message: only that job sees
    the context variable that it sets there.
    """

    def __init__(self, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        return PreparedMessage.of(message)

    def loads(self, message: bytes) -> TaskiqMessage:
        """Raises `Unreadable`."""
        if not isinstance(message, DeliveredBody):
            return to_taskiq(decode(message, max_bytes=self._max_bytes))
        current_delivery.set(message)
        if (task := asyncio.current_task()) is not None:
            task.add_done_callback(message.release)
        return to_taskiq(message.job_message)


def to_taskiq(message: JobMessage) -> TaskiqMessage:
    """The message as taskiq, its middlewares and the task's `Context` see it."""
    return TaskiqMessage(
        task_id=message.job_id,
        task_name=message.task,
        labels=dict(message.labels),
        args=message.args,
        kwargs=message.kwargs,
    )
