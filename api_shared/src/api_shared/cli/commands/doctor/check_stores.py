"""Checks of MongoDB and Redis: reachable, writable, and as the promises need them."""

from __future__ import annotations

import asyncio
import secrets

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api_shared.cli.durations import lasted
from api_shared.cli.masking import masked_url
from api_shared.doctor import Finding, Findings
from api_shared.errors import ServerError
from api_shared.ledger.mongo.server_check import Checkup, examine
from api_shared.notifier.redis.keys import Keys
from api_shared.notifier.redis.notifier import RedisUnavailable, connection_pool, version_of
from api_shared.notifier.redis.outage import describe
from api_shared.settings import Settings

MONGODB = Findings("mongodb")
REDIS = Findings("redis")
OLDEST_MONGODB = (6, 0)
OLDEST_REDIS = {"Redis": (7, 0), "Valkey": (8, 0)}
SKEW_S = 5.0
ANSWER_S = 10.0
"""How long Redis may take to answer, on a busy machine too."""


async def check_mongodb(settings: Settings) -> list[Finding]:
    where = masked_url(settings.mongodb_url.get_secret_value())
    try:
        checkup = await examine(settings)
    except ServerError as error:
        remedy = f"start MongoDB, or correct MONGODB_URL: now {where}"
        return [MONGODB.away(str(error), remedy)]
    findings = [
        MONGODB.version("MongoDB", checkup.version, OLDEST_MONGODB, where),
        _replica_set(checkup),
        _majority_write(checkup, settings),
    ]
    if checkup.missing_indexes:
        text = f"indexes that are missing: {', '.join(checkup.missing_indexes)}"
        findings.append(MONGODB.warn(text, "a worker creates them at its start"))
    if abs(checkup.clock_ahead_s) > SKEW_S:
        side = "ahead of" if checkup.clock_ahead_s > 0 else "behind"
        text = f"its clock is {lasted(abs(checkup.clock_ahead_s))} {side} this machine's"
        remedy = "only its clock counts for jobs; times you compare with logs are off: use NTP"
        findings.append(MONGODB.warn(text, remedy))
    return findings


def _replica_set(checkup: Checkup) -> Finding:
    if checkup.replica_set is None:
        text = "it is not a replica set: a majority write means nothing, a crash may lose jobs"
        return MONGODB.bad(text, "start mongod with --replSet rs0, then rs.initiate() in mongosh")
    return MONGODB.ok(f"it is a replica set, {checkup.replica_set!r}")


def _majority_write(checkup: Checkup, settings: Settings) -> Finding:
    if checkup.write_refused:
        text = f"a majority write does not work: {checkup.write_refused}"
        return MONGODB.bad(
            text,
            f"give the user readWrite on {settings.database_name!r}; see rs.status() for members "
            f"that are down",
        )
    return MONGODB.ok(f"a majority write took {checkup.write_ms:.0f} ms")


async def check_redis(settings: Settings) -> list[Finding]:
    """Check Redis, with a longer deadline than a notifier has."""
    where = masked_url(settings.redis_url.get_secret_value())
    pool = connection_pool(settings, connect_timeout_s=ANSWER_S)
    try:
        async with asyncio.timeout(ANSWER_S), Redis.from_pool(pool) as redis:
            product, _, version = (await version_of(redis)).partition(" ")
            oldest = OLDEST_REDIS.get(product, (0, 0))
            return [REDIS.version(product, version, oldest, where), await _write(redis, settings)]
    except Exception as error:  # whatever the client raises
        remedy = (
            f"jobs run without it, listeners get events late: start Redis, or correct REDIS_URL: "
            f"now {where}"
        )
        return [REDIS.away(str(RedisUnavailable(describe(error))), remedy)]


async def _write(redis: Redis, settings: Settings) -> Finding:
    """Check that Redis takes what the platform writes: a result that expires, and an event."""
    key = Keys(settings.redis_prefix).result(f"doctor-{secrets.token_hex(6)}")
    try:
        await redis.set(key, b"", px=1000)
        await redis.delete(key)
        await redis.publish(f"{settings.redis_prefix}:doctor", b"")
    except RedisError as error:
        remedy = f"allow this user to write and publish under {settings.redis_prefix}:*"
        return REDIS.bad(f"results and events are refused: {type(error).__name__}: {error}", remedy)
    return REDIS.ok("results can be stored and events published")
