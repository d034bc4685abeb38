"""A check of the MongoDB server: whether the ledger's promises can hold on it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pymongo
from pymongo.errors import PyMongoError

from api_shared.ledger.mongo.connection import Connection
from api_shared.ledger.mongo.errors import ledger_errors, reason_of
from api_shared.ledger.mongo.indexes import JOB_INDEXES
from api_shared.settings import Settings

ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Checkup:
    """
    The result of the check. `replica_set` None: a standalone server, without majority writes.
    `write_refused` is why a majority write failed. `clock_ahead_s` compares the server's clock with
    this machine's.
    """

    version: str
    replica_set: str | None
    write_ms: float
    write_refused: str
    clock_ahead_s: float
    missing_indexes: tuple[str, ...]


async def examine(settings: Settings) -> Checkup:
    """Check the server, which is unchanged afterwards. Raises `LedgerUnavailable`."""
    connection = Connection(settings, max_batch=1)
    try:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            info = await connection.client.server_info()
            asked_at = datetime.now(UTC)
            hello = await connection.client.admin.command("hello")
            answered_at = datetime.now(UTC)
            existing = await connection.jobs.index_information()
        write_ms, write_refused = await _write(connection)
    finally:
        await connection.close()
    return Checkup(
        version=str(info["version"]),
        replica_set=hello.get("setName"),
        write_ms=write_ms,
        write_refused=write_refused,
        clock_ahead_s=_ahead_s(hello["localTime"], asked_at, answered_at),
        missing_indexes=tuple(
            name
            for name in (str(index.document["name"]) for index in JOB_INDEXES)
            if name not in existing
        ),
    )


async def _write(connection: Connection) -> tuple[float, str]:
    """
    Insert and delete an old report of a worker, with the ledger's own write concern. It does not
    count as alive, and if its deletion fails, the TTL index deletes it.
    """
    report = {"_id": f"doctor-{secrets.token_hex(6)}", "seen_at": datetime(1970, 1, 1, tzinfo=UTC)}
    started = time.monotonic()
    try:
        with pymongo.timeout(ANSWER_S):
            await connection.workers.insert_one(report)
            write_ms = (time.monotonic() - started) * 1000
            await connection.workers.delete_one({"_id": report["_id"]})
    except PyMongoError as error:
        return 0.0, reason_of(error)
    return round(write_ms, 1), ""


def _ahead_s(theirs: datetime, asked_at: datetime, answered_at: datetime) -> float:
    """How far the server's clock is ahead of ours; 0 if its time lies within the request."""
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    if theirs < asked_at:
        return (theirs - asked_at).total_seconds()
    return max(0.0, (theirs - answered_at).total_seconds())
