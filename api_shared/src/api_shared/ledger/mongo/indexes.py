"""The indexes of the ledger. They are few, because each one slows the writes of its fields."""

from __future__ import annotations

from datetime import UTC, datetime

from pymongo import ASCENDING, DESCENDING, IndexModel

from api_shared.job import Status
from api_shared.ledger.mongo.documents import Document

HAS_DUE_AT: Document = {"$gt": datetime(1970, 1, 1, tzinfo=UTC)}
"""A comparison, which the index `due` answers. `$exists` would read each document."""

IS_OPEN: Document = {"broker": {"$gt": ""}, "due_at": HAS_DUE_AT}
"""
Every job that has not ended has `due_at`. With this condition the index `due` can serve a query for
open jobs, even if very many jobs have ended.
"""

HOLDS_ITS_KEY: Document = {"unique_held": True}

UNIQUE_INDEX = IndexModel(
    [("task", ASCENDING), ("unique_key", ASCENDING)],
    name="unique",
    unique=True,
    partialFilterExpression=HOLDS_ITS_KEY,
)
"""The guard of uniqueness: no two jobs of a task hold the same key."""

JOB_INDEXES = [
    # For the dispatcher's query, several times a second. `due_at` changes with every status anyway,
    # so queue, status and queued_at cost nothing more; the counts of open jobs (`queued`, `count`)
    # are then answered from the index alone. Ended jobs are not in it.
    IndexModel(
        [(name, ASCENDING) for name in ("broker", "due_at", "queue", "status", "queued_at")],
        name="due",
        partialFilterExpression={"due_at": {"$exists": True}},
    ),
    UNIQUE_INDEX,
    # TTL: deletes ended jobs. Only they have the field.
    IndexModel("expires_at", name="expiry", expireAfterSeconds=0, sparse=True),
    # For `find`, newest first. These fields never change: they are written once for each job.
    IndexModel([("accepted_at", DESCENDING), ("_id", DESCENDING)], name="newest"),
    IndexModel(
        [("owner", ASCENDING), ("accepted_at", DESCENDING), ("_id", DESCENDING)],
        name="owner",
        partialFilterExpression={"owner": {"$exists": True}},
    ),
    IndexModel(
        [("correlation_id", ASCENDING), ("accepted_at", DESCENDING), ("_id", DESCENDING)],
        name="correlation_id",
        partialFilterExpression={"correlation_id": {"$exists": True}},
    ),
    # For the failed jobs among very many completed ones; only failed jobs are in it.
    IndexModel(
        [("status", ASCENDING), ("accepted_at", DESCENDING), ("_id", DESCENDING)],
        name="failed",
        partialFilterExpression={"status": Status.FAILED.value},
    ),
]

WORKER_INDEXES = [
    # A worker that was killed cannot remove its report.
    IndexModel("seen_at", name="expiry", expireAfterSeconds=3600),
]

SCHEDULE_INDEXES = [
    # For the query for due ticks, as often as the dispatcher's; paused schedules are not in it.
    IndexModel(
        [("broker", ASCENDING), ("due_at", ASCENDING)],
        name="due",
        partialFilterExpression={"due_at": {"$exists": True}},
    ),
]
