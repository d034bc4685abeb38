"""The exchanges and queues of both brokers, and their declaration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldTable

from api_shared.errors import QueueMismatch, UnknownQueue
from api_shared.settings import Settings
from api_shared.transport.errors import driver_errors

MAX_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue, its routing key, and its rank: a worker empties rank 0 before it looks at 1."""

    name: str
    routing_key: str
    rank: int = 1

    @property
    def dead_letter_queue(self) -> str:
        return f"{self.name}.dlq"


@dataclass(frozen=True, slots=True)
class Topology:
    """One broker's exchange and queues; the first queue is its default."""

    broker: str
    exchange: str
    queues: tuple[QueueSpec, ...]

    @property
    def default(self) -> QueueSpec:
        return self.queues[0]

    def queue(self, name: str | None) -> QueueSpec:
        """The queue of that name; None: the default queue. Raises `UnknownQueue`."""
        if name is None:
            return self.default
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise UnknownQueue(name, [queue.name for queue in self.queues])

    def select(self, names: Iterable[str]) -> tuple[QueueSpec, ...]:
        """The queues of these names, or all queues without names. Raises `UnknownQueue`."""
        return tuple(self.queue(name) for name in names) or self.queues


def topology_of(broker: str, settings: Settings) -> Topology:
    """The topology of a broker. Its exchange, default queue and routing key are settings."""
    if broker == "ml":
        default = QueueSpec(settings.taskiq_ml_queue, settings.taskiq_ml_routing_key)
        others = [QueueSpec(name, name) for name in ("indexing", "training", "prediction")]
        return Topology(broker, settings.taskiq_ml_exchange, (default, *others))
    default = QueueSpec(settings.taskiq_queue, settings.taskiq_routing_key)
    jobs = [QueueSpec(name, name) for name in ("summarize", "keywords", "normalize", "ai_jobs")]
    ranked = (QueueSpec("critical", "critical", rank=0), QueueSpec("low", "low", rank=2))
    return Topology(broker, settings.taskiq_exchange, (default, *ranked, *jobs))


async def declare(channel: AbstractChannel, topology: Topology) -> None:
    """
    Declare the exchange, queues and dead-letter queues that do not exist yet.

    Classic queues: they take ten priorities in every RabbitMQ from 3.10 to 4.x.
    Raises `QueueMismatch` if one exists with other arguments, and `RabbitUnavailable`.
    """
    with driver_errors():
        try:
            await channel.exchange_declare(topology.exchange, exchange_type="direct", durable=True)
            for queue in topology.queues:
                for name, arguments in declarations_of(queue):
                    await channel.queue_declare(name, durable=True, arguments=arguments)
                await channel.queue_bind(queue.name, topology.exchange, queue.routing_key)
        except ChannelPreconditionFailed as error:
            text = str(error)
            found = re.search(r"(?:queue|exchange) '([^']+)'", text)
            raise QueueMismatch(found[1] if found else topology.exchange, text[:300]) from None


def declarations_of(queue: QueueSpec) -> tuple[tuple[str, FieldTable], ...]:
    """A queue's dead-letter queue and the queue itself: names and arguments, in this order."""
    return (
        (queue.dead_letter_queue, {"x-queue-type": "classic"}),
        (
            queue.name,
            {
                "x-queue-type": "classic",
                "x-max-priority": MAX_PRIORITY,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue.dead_letter_queue,
            },
        ),
    )


async def depth(channel: AbstractChannel, queue: str) -> int | None:
    """
    The number of messages that no consumer holds. None: there is no such queue.

    The queue itself answers: the management API's figures are seconds old. Raises what the driver
    raises, so that the caller can distinguish a refusal from a missing queue.
    """
    try:
        answer = await channel.queue_declare(queue, passive=True)
    except ChannelNotFoundEntity:
        return None
    return answer.message_count or 0
