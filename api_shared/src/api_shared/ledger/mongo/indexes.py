"""The indexes of the ledger: few, because each costs every write that changes its fields."""

from __future__ import annotations

from datetime import UTC, datetime

from pymongo import ASCENDING, DESCENDING, IndexModel

from api_shared.job import Status
from api_shared.ledger.mongo.documents import Document

HAS_DUE_AT: Document = {"$gt": datetime(1970, 1, 1, tzinfo=UTC)}
"""Said as a comparison, because `$exists` would read each document: the index `due` is enough."""

IS_OPEN: Document = {"broker": {"$gt": ""}, "due_at": HAS_DUE_AT}
"""
Every job that has not ended has `due_at`: said in a query, this lets the index `due` serve it
where very many jobs have ended and few are open.
"""

HOLDS_ITS_KEY: Document = {"unique_held": True}

UNIQUE_INDEX = IndexModel(
    [("task", ASCENDING), ("unique_key", ASCENDING)],
    name="unique",
    unique=True,
    partialFilterExpression=HOLDS_ITS_KEY,
)
"""What makes a job unique: of a task's jobs that hold their key, no two have the same."""

JOB_INDEXES = [
    # The dispatcher's look, several times a second. `due_at` moves with every change of status
    # anyway, so that carrying queue, status and queued_at costs nothing more; the counts of open
    # jobs (`queued`, `count`) are then answered from the index alone. Ended jobs are not in it.
    IndexModel(
        [(name, ASCENDING) for name in ("broker", "due_at", "queue", "status", "queued_at")],
        name="due",
        partialFilterExpression={"due_at": {"$exists": True}},
    ),
    UNIQUE_INDEX,
    # TTL: deletes ended jobs. Only they have the field.
    IndexModel("expires_at", name="expiry", expireAfterSeconds=0, sparse=True),
    # `find`, newest first. Fields that never change: these are written once a job.
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
    # The failed among very many that are completed; costs only those that fail.
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
    # The look for ticks, as often as the dispatcher's; paused schedules are not in it.
    IndexModel(
        [("broker", ASCENDING), ("due_at", ASCENDING)],
        name="due",
        partialFilterExpression={"due_at": {"$exists": True}},
    ),
]
