"""Publishers of jobs and dead letters: persistent, confirmed, within a deadline."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog
from aiormq.exceptions import PublishError
from pamqp import encode as amqp_encode
from pamqp.commands import Basic
from pamqp.common import FieldTable

from api_shared.errors import Unroutable
from api_shared.job import Job
from api_shared.transport.connection import Connection
from api_shared.transport.dead_letter_headers import DeadLetterHeaders
from api_shared.transport.errors import RabbitUnavailable, driver_errors
from api_shared.transport.message import ACCEPTED, encode
from api_shared.transport.topology import MAX_PRIORITY, QueueSpec, Topology, declarations_of

log = structlog.get_logger()

MAX_HEADERS_BYTES = 64 * 1024
"""Headers must fit in one frame of 128 KiB: RabbitMQ closes the connection for a longer one."""
MAX_NESTING = 50
"""The driver can write fewer levels than it reads; how many depends on the depth of its caller."""


class Publisher(Protocol):
    """Publishes jobs and dead letters. Each method raises `Unroutable` and `RabbitUnavailable`."""

    async def publish_job(self, job: Job) -> None:
        """Publish an accepted job to its queue."""

    async def publish_dead_letter(
        self,
        queue: QueueSpec,
        body: bytes,
        dead_letter: DeadLetterHeaders,
        *,
        headers: FieldTable | None = None,
        priority: int = 0,
    ) -> None:
        """Publish to the queue's dead-letter queue, with the headers of `dead_letter` added."""

    async def put_back(
        self, queue: QueueSpec, body: bytes, *, headers: FieldTable, priority: int
    ) -> None:
        """Publish a dead letter to the queue that it came from, unchanged."""


class AmqpPublisher(Publisher):
    """Persistent and confirmed. Raises `RabbitUnavailable` at once while `connection` is down."""

    def __init__(self, connection: Connection, topology: Topology, *, deadline_s: float) -> None:
        self._connection = connection
        self._topology = topology
        self._deadline_s = deadline_s

    @property
    def connection(self) -> Connection:
        return self._connection

    async def publish_job(self, job: Job) -> None:
        queue = self._topology.queue(job.queue)
        await self._publish(
            self._topology.exchange,
            queue.routing_key,
            encode(job),
            priority=job.priority,
            headers={ACCEPTED: 1},
        )

    async def publish_dead_letter(
        self,
        queue: QueueSpec,
        body: bytes,
        dead_letter: DeadLetterHeaders,
        *,
        headers: FieldTable | None = None,
        priority: int = 0,
    ) -> None:
        """
        Publish the whole message to the queue's dead-letter queue, so that it can be moved back.
        A dead-letter queue that was deleted is declared again.
        """
        whole = {**(headers or {}), **dead_letter.headers}
        sent = whole if _can_be_sent(whole) else dead_letter.headers
        publish = partial(
            self._publish, "", queue.dead_letter_queue, body,
            priority=priority, headers=sent, at=datetime.now(UTC),
        )  # fmt: skip
        try:
            await publish()
        except Unroutable:
            await self._declare_dead_letter_queue(queue)
            await publish()

    async def put_back(
        self, queue: QueueSpec, body: bytes, *, headers: FieldTable, priority: int
    ) -> None:
        await self._publish(
            self._topology.exchange, queue.routing_key, body, priority=priority, headers=headers
        )

    async def _declare_dead_letter_queue(self, queue: QueueSpec) -> None:
        """
        Declare on a separate channel: a refusal would close the channel of the other publishers.
        """
        name, arguments = declarations_of(queue)[0]
        with driver_errors():
            async with (
                asyncio.timeout(self._deadline_s),
                self._connection.side_channel() as channel,
            ):
                await channel.queue_declare(name, durable=True, arguments=arguments)
        log.warning("queue.declared_again", queue=name)

    async def _publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        priority: int,
        headers: FieldTable,
        at: datetime | None = None,
    ) -> None:
        channel = self._connection.channel
        if channel is None:
            raise RabbitUnavailable("not connected")
        if await self._connection.is_blocked():  # the driver would wait until it is not
            raise RabbitUnavailable("it takes no messages now, for lack of memory or disk space")
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            priority=min(priority, MAX_PRIORITY),
            headers=headers,
            timestamp=at,
        )
        with driver_errors():
            try:
                await channel.basic_publish(
                    body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=properties,
                    mandatory=True,
                    timeout=self._deadline_s,
                    wait=False,
                )
            except PublishError:
                raise Unroutable(routing_key, exchange) from None
            except TimeoutError:
                raise RabbitUnavailable(f"no confirm within {self._deadline_s:g} s") from None


class NoPublisher(Publisher):
    """Publishes nothing: for a process that never publishes, such as most commands of `kiq`."""

    async def publish_job(self, job: Job) -> None:
        raise RabbitUnavailable("this process does not publish")

    async def publish_dead_letter(
        self,
        queue: QueueSpec,
        body: bytes,
        dead_letter: DeadLetterHeaders,
        *,
        headers: FieldTable | None = None,
        priority: int = 0,
    ) -> None:
        raise RabbitUnavailable("this process does not publish")

    async def put_back(
        self, queue: QueueSpec, body: bytes, *, headers: FieldTable, priority: int
    ) -> None:
        raise RabbitUnavailable("this process does not publish")


def _can_be_sent(headers: FieldTable) -> bool:
    """Whether the headers of another program can be sent again with ours."""
    try:
        size_bytes = len(amqp_encode.field_table(headers))
    except Exception:  # not all headers that can be read can be written
        return False
    return size_bytes <= MAX_HEADERS_BYTES and not _nests_deeper(headers, MAX_NESTING)


def _nests_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nests_deeper(each, levels - 1) for each in inner)
