"""What MongoDB must be for the ledger's promises to hold, asked of the server itself."""

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
    `replica_set` None: a server on its own, where a majority means nothing. `write_refused` says
    why a majority write did not work. `clock_ahead_s` compares the server's clock with ours.
    """

    version: str
    replica_set: str | None
    write_ms: float
    write_refused: str
    clock_ahead_s: float
    missing_indexes: tuple[str, ...]


async def examine(settings: Settings) -> Checkup:
    """Raises `LedgerUnavailable`. Leaves nothing behind."""
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
    Insert and delete a worker's report of long ago, with the ledger's own write concern: nobody
    counts it as alive, and where the deletion fails the TTL index makes up for it.
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
    """By how much their clock is ahead of ours; 0 if it showed a time while we were asking."""
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    if theirs < asked_at:
        return (theirs - asked_at).total_seconds()
    return max(0.0, (theirs - answered_at).total_seconds())
