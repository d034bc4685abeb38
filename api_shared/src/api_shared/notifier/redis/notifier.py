"""The notifier over Redis or Valkey: pub/sub for events, keys that expire for results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api_shared.errors import InvalidJobId, ServerError
from api_shared.job import parse_job_id
from api_shared.notifier.events import JobEvent, StoredResult
from api_shared.notifier.protocol import Notifier
from api_shared.notifier.redis.keys import Keys
from api_shared.notifier.redis.outage import Outage, describe
from api_shared.notifier.redis.publisher import Publisher
from api_shared.notifier.redis.pubsub import Connection, PubSub
from api_shared.notifier.redis.text_stream import TextReader
from api_shared.notifier.subscription import (
    QueuedSubscription,
    each_once,
    latest_progress,
    one_is_enough,
)
from api_shared.notifier.text_stream import Outgoing
from api_shared.settings import InvalidSettings, Settings

CONNECT_TIMEOUT_S = 1.0
DEADLINE_S = 2.0
MAX_CONNECTIONS = 16


class RedisUnavailable(ServerError):
    """Redis is away. Only raised for requests to the server itself: jobs do not need it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Redis (REDIS_URL) is not reachable: {reason}")


class RedisNotifier(Notifier):
    """The notifier on Redis: a pool for publishing and reading, a connection for subscriptions."""

    def __init__(self, settings: Settings, *, rng: Random | None = None) -> None:
        rng = rng or Random()  # noqa: S311 - jitter, not a secret
        outage = Outage()
        self._keys = Keys(settings.redis_prefix)
        self._pool = connection_pool(settings)
        self._redis = Redis(connection_pool=self._pool)
        self._publisher = Publisher(
            self._redis,
            self._keys,
            outage,
            result_ttl_s=settings.result_ttl_s,
            text_ttl_s=settings.text_ttl_s,
            rng=rng,
        )
        self._pubsub = PubSub(self._new_connection, self._decode, outage, rng)

    async def start(self) -> None:
        """Start without waiting for the server, which may come later."""
        self._publisher.start()
        self._pubsub.start()

    async def close(self) -> None:
        await self._publisher.close()
        await self._pubsub.close()
        with suppress(RedisError, OSError):
            await self._pool.disconnect()

    def publish(self, event: JobEvent, result: StoredResult | None = None) -> None:
        self._publisher.publish(event, result)

    def publish_cancel(self, job_id: str) -> None:
        self._publisher.publish_cancel(job_id)

    @asynccontextmanager
    async def subscribe(
        self, *, job_id: str | None = None, owner: str | None = None
    ) -> AsyncIterator[QueuedSubscription[JobEvent]]:
        """Enter within about a second, subscribed or not: the ledger has what was missed."""
        subscription: QueuedSubscription[JobEvent] = QueuedSubscription(latest_progress)
        name = self._keys.channel_for(job_id=job_id, owner=owner)
        async with self._pubsub.listen(name, subscription):
            yield subscription

    async def cancel_requests(self) -> AsyncGenerator[str, None]:
        subscription: QueuedSubscription[str] = QueuedSubscription(each_once)
        async with self._pubsub.listen(self._keys.cancel, subscription):
            async for job_id in subscription:
                yield job_id

    def publish_text(self, outgoing: Outgoing) -> None:
        self._publisher.publish_text(outgoing)

    @asynccontextmanager
    async def follow_text(self, job_id: str) -> AsyncIterator[TextReader]:
        subscription: QueuedSubscription[str] = QueuedSubscription(one_is_enough)
        subscription.lose()
        async with self._pubsub.listen(self._keys.text_news(job_id), subscription):
            yield TextReader(self._redis, self._keys.text(job_id), subscription)

    async def load_result(self, job_id: str) -> bytes | None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                value = await self._redis.get(self._keys.result(job_id))
        except Exception:  # whatever the client raises: the ledger has the result
            return None
        return value if isinstance(value, bytes) else None

    async def server_version(self) -> str:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await version_of(self._redis)
        except Exception as error:
            raise RedisUnavailable(describe(error)) from error

    def _new_connection(self) -> Connection:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    def _decode(self, channel: str, payload: bytes) -> JobEvent | str | None:
        """The item of a message; None for messages that are not ours."""
        try:
            if self._keys.is_text_news(channel):
                return "more"
            if channel == self._keys.cancel:
                return parse_job_id(payload.decode())
            return JobEvent.from_json(payload)
        except (ValueError, InvalidJobId):
            return None


async def version_of(redis: Redis) -> str:
    """The product and its version, for people. Raises what the client raises."""
    info = await redis.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', 'of unknown version')}"


def pool_options() -> dict[str, Any]:
    """
    Options for connections whose every use is bounded by `asyncio.timeout`.

    redis-py bounds its writes with `asyncio.wait_for`, which up to Python 3.11 may swallow a
    cancellation (https://github.com/python/cpython/issues/81839), so that a task does not end.
    """
    return {
        "timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": 10,
        "retry": Retry(NoBackoff(), 1),
        "protocol": 2,  # in RESP3 redis-py asks each server for maintenance events first
    }


def connection_pool(
    settings: Settings, *, connect_timeout_s: float = CONNECT_TIMEOUT_S
) -> BlockingConnectionPool:
    """
    A pool of connections. Raises `InvalidSettings` without the URL, which may hold a password.
    """
    url = settings.redis_address
    try:
        options = pool_options() | {"socket_connect_timeout": connect_timeout_s}
        return BlockingConnectionPool.from_url(url, max_connections=MAX_CONNECTIONS, **options)
    except ValueError:
        problem = "must be a URL like redis://[user:password@]host:6379/0 (or rediss://, unix://)"
        raise InvalidSettings([f"REDIS_URL: {problem}"]) from None
