"""
The ledger in MongoDB.

The driver is motor, which only this package imports. Motor's successor, PyMongo's
`AsyncMongoClient`, has the same calls: the change will be an import.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TypeVar

import pymongo
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from api_shared.errors import AcceptanceUnknown, LedgerUnavailable, UniqueTaken
from api_shared.job import TERMINAL, Job, Status
from api_shared.ledger.audit import Audit, Scope
from api_shared.ledger.batcher import GaveUp
from api_shared.ledger.change import Change
from api_shared.ledger.mongo.audit import count_jobs
from api_shared.ledger.mongo.batch_writes import encode
from api_shared.ledger.mongo.connection import Connection
from api_shared.ledger.mongo.documents import (
    Document,
    job_of,
    now_plus,
    object_id,
    update_of,
    worker_of,
    worker_pipeline,
)
from api_shared.ledger.mongo.errors import ledger_errors
from api_shared.ledger.mongo.indexes import (
    HAS_DUE_AT,
    IS_OPEN,
    JOB_INDEXES,
    SCHEDULE_INDEXES,
    WORKER_INDEXES,
)
from api_shared.ledger.mongo.readable import Readable
from api_shared.ledger.mongo.requests import MongoRequests
from api_shared.ledger.mongo.schedules import MongoScheduleStore
from api_shared.ledger.mongo.unique_keys import holders_of, taken_key
from api_shared.ledger.operations import Insert, Operation
from api_shared.ledger.protocol import ClaimState, JobFilter, Ledger, WorkerInfo
from api_shared.settings import Settings

V = TypeVar("V")

ANSWER_S = 5.0
"""For a single request to the server. Writers that must succeed repeat theirs."""
AGAIN_S = 0.05
TALLY_S = 120.0
"""For a count of very many jobs."""
IDS_AT_A_TIME = 10_000
_OPEN = frozenset(Status) - TERMINAL


class MongoLedger(Ledger):
    """
    The ledger in MongoDB, open from `start` to `close` in the event loop that started it.

    `max_batch` is the most operations one write carries; 1 switches batching off.
    """

    def __init__(self, settings: Settings, *, max_batch: int = 200) -> None:
        self._settings = settings
        self._max_batch = max_batch
        self._open: Connection | None = None
        self._process = 0
        self._readable = Readable()

    @property
    def schedules(self) -> MongoScheduleStore:
        return MongoScheduleStore(self._server.schedules)

    async def start(self) -> None:
        if self._open is None:
            self._process = os.getpid()
            self._open = Connection(self._settings, self._max_batch)

    async def prepare(self) -> None:
        with ledger_errors():
            await self._server.jobs.create_indexes(JOB_INDEXES)
            await self._server.workers.create_indexes(WORKER_INDEXES)
            await self._server.schedules.create_indexes(SCHEDULE_INDEXES)

    async def give_up(self) -> None:
        await self._server.batcher.close()

    async def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close()

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        statement = encode(operation)
        try:
            if isinstance(operation, Insert) and operation.job.unique_held:
                self._server.batcher.check(deadline_s or ANSWER_S)
                with ledger_errors(), pymongo.timeout(deadline_s or ANSWER_S):
                    await self._server.make_unique()
            verdict: V = await self._server.batcher.submit(statement, deadline_s=deadline_s)
        except GaveUp as error:
            if error.in_doubt and isinstance(operation, Insert):
                raise AcceptanceUnknown(operation.job.id) from None
            raise LedgerUnavailable(error.reason) from None
        return verdict

    async def change(self, change: Change) -> Job | None:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            query, pipeline = update_of(change)
            while True:
                try:
                    document = await self._server.jobs.find_one_and_update(
                        query, pipeline, return_document=ReturnDocument.AFTER
                    )
                    return None if document is None else job_of(document)
                except DuplicateKeyError as error:
                    await self._raise_holder(error)
                await asyncio.sleep(AGAIN_S)

    async def _raise_holder(self, error: DuplicateKeyError) -> None:
        """Raises `UniqueTaken`, unless the key was freed, or is not with the majority yet."""
        taken = taken_key(error.details or {})
        if taken is None:
            raise error
        holders = await holders_of(self._server.jobs, [taken])
        if taken in holders:
            raise UniqueTaken(taken[1], str(holders[taken]["_id"])) from None

    async def get(self, job_id: str) -> Job | None:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            document = await self._server.jobs.find_one({"_id": object_id(job_id)})
        return None if document is None else job_of(document)

    async def find(
        self, job_filter: JobFilter, *, limit: int = 50, before: Job | datetime | None = None
    ) -> list[Job]:
        query: Document = {}
        for name in JobFilter.__dataclass_fields__:
            value = getattr(job_filter, name)
            if value is not None:
                query[name] = {"$eq": value.value if isinstance(value, Status) else value}
        if job_filter.status is not None and not job_filter.status.is_terminal:
            query = {"$and": [query, IS_OPEN]}
        if isinstance(before, Job):
            earlier = [
                {"accepted_at": {"$lt": before.accepted_at}},
                {"accepted_at": before.accepted_at, "_id": {"$lt": object_id(before.id)}},
            ]
            query = {"$and": [query, {"accepted_at": {"$lte": before.accepted_at}},
                              {"$or": earlier}]}  # fmt: skip
        elif before is not None:
            query = {"$and": [query, {"accepted_at": {"$lt": before}}]}
        return await self._jobs(query, [("accepted_at", -1), ("_id", -1)], limit)

    async def due(
        self, broker: str, *, statuses: Collection[Status] | None = None, limit: int = 100
    ) -> list[Job]:
        query: Document = {
            "broker": broker,
            "due_at": HAS_DUE_AT,
            "$expr": {"$lte": ["$due_at", "$$NOW"]},
        }
        if statuses is not None:
            query["status"] = {"$in": [status.value for status in statuses]}
        return await self._jobs(query, [("due_at", 1)], limit)

    async def heartbeat(self, held: Mapping[str, str], *, lease_s: float) -> dict[str, ClaimState]:
        """
        Renew leases without the batcher, within a third of a lease: they must not wait for writes.
        """
        ids = [object_id(job_id) for job_id in held]
        renewable = {
            "_id": {"$in": ids},
            "token": {"$in": list(held.values())},
            "status": Status.PROCESSING.value,
        }
        renewal = [{"$set": {"due_at": now_plus(round(lease_s * 1000))}}]
        deadline_s = lease_s / 3
        with ledger_errors():
            async with asyncio.timeout(deadline_s):
                with pymongo.timeout(deadline_s):
                    await self._server.jobs.update_many(renewable, renewal)
                    found = await self._server.jobs.find(
                        renewable, {"token": 1, "cancel_requested": 1}
                    ).to_list(None)
        tokens = {str(parsed): token for parsed, token in zip(ids, held.values(), strict=True)}
        names = {str(parsed): job_id for parsed, job_id in zip(ids, held, strict=True)}
        return {
            names[key]: ClaimState(document.get("cancel_requested", False))
            for document in found
            if document["token"] == tokens[key := str(document["_id"])]
        }

    async def queued(self, broker: str, queue: str, *, older_than_s: float = 0) -> int:
        latest = {"$subtract": ["$$NOW", round(older_than_s * 1000)]}
        is_older = {"$cond": [{"$lte": ["$queued_at", latest]}, 1, 0]}
        pipeline: list[Document] = [
            {"$match": _queued_in(broker, queue)},
            {"$group": {"_id": None, "jobs": {"$sum": is_older}}},
        ]
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            groups = await self._at_one_moment.aggregate(pipeline).to_list(None)
        return int(groups[0]["jobs"]) if groups else 0

    @property
    def _at_one_moment(self) -> AsyncIOMotorCollection[Document]:
        """
        A snapshot for counts: a scan could see a job twice, or never, if its index entry moves.
        """
        return self._server.jobs.with_options(read_concern=ReadConcern("snapshot"))

    async def oldest_queued(
        self,
        broker: str,
        queue: str,
        *,
        limit: int,
        older_than_s: float = 0,
        not_due_within_s: float | None = None,
    ) -> list[Job]:
        latest = {"$subtract": ["$$NOW", round(older_than_s * 1000)]}
        conditions: list[Document] = [{"$lte": ["$queued_at", latest]}]
        if not_due_within_s is not None:
            conditions.append({"$gt": ["$due_at", now_plus(round(not_due_within_s * 1000))]})
        query = _queued_in(broker, queue) | {"$expr": {"$and": conditions}}
        return await self._jobs(query, [("queued_at", 1)], limit)

    async def count(self, broker: str) -> dict[str, dict[Status, int]]:
        by = {"queue": "$queue", "status": "$status"}
        pipeline: list[Document] = [
            {"$match": {"broker": broker, "due_at": HAS_DUE_AT}},
            {"$group": {"_id": by, "jobs": {"$sum": 1}}},
        ]
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            groups = await self._at_one_moment.aggregate(pipeline).to_list(None)
        counts: dict[str, dict[Status, int]] = {}
        for group in groups:
            queue, status = group["_id"]["queue"], group["_id"]["status"]
            if status in _OPEN:
                counts.setdefault(queue, {})[Status(status)] = group["jobs"]
        return counts

    async def usage_of(self, owner: str) -> dict[str, int]:
        pipeline: list[Document] = [
            {"$match": {"owner": {"$eq": owner}, "usage": {"$exists": True}}},
            {"$project": {"used": {"$objectToArray": "$usage"}}},
            {"$unwind": "$used"},
            {"$group": {"_id": "$used.k", "amount": {"$sum": "$used.v"}}},
        ]
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            groups = await self._server.jobs.aggregate(pipeline).to_list(None)
        return {group["_id"]: int(group["amount"]) for group in groups}

    async def audit(self, scope: Scope, *, overdue_s: float, dispatched: Collection[str]) -> Audit:
        await self.server_version()  # otherwise the search for a server that is away takes TALLY_S
        with ledger_errors(), pymongo.timeout(TALLY_S):
            return await count_jobs(
                self._server.jobs, scope, overdue_s=overdue_s, dispatched=dispatched
            )

    async def absent(self, job_ids: Collection[str]) -> list[str]:
        asked = list(job_ids)
        there: set[str] = set()
        for start in range(0, len(asked), IDS_AT_A_TIME):
            ids = [object_id(job_id) for job_id in asked[start : start + IDS_AT_A_TIME]]
            with ledger_errors(), pymongo.timeout(TALLY_S):
                found = await self._server.jobs.find({"_id": {"$in": ids}}, {"_id": 1}).to_list(
                    None
                )
            there |= {str(document["_id"]) for document in found}
        return [job_id for job_id in asked if str(object_id(job_id)) not in there]

    async def withdraw(self, job_id: str, change_id: str) -> bool:
        untouched = {
            "_id": object_id(job_id),
            "status": Status.QUEUED.value,
            "claim_no": 0,
            "history": {"$size": 1},
            "history.0.change_id": {"$eq": change_id},
        }
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            return (await self._server.jobs.delete_one(untouched)).deleted_count == 1

    async def report_worker(self, info: WorkerInfo) -> None:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            await self._server.workers.update_one(
                {"_id": {"$eq": info.id}}, worker_pipeline(info), upsert=True
            )

    async def remove_worker(self, worker_id: str) -> None:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            await self._server.workers.delete_one({"_id": {"$eq": worker_id}})

    async def workers(self, *, seen_within_s: float = 15) -> list[WorkerInfo]:
        earliest = {"$subtract": ["$$NOW", round(seen_within_s * 1000)]}
        query = {"$expr": {"$gte": ["$seen_at", earliest]}}
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            found = await self._server.workers.find(query, sort=[("_id", 1)]).to_list(None)
        return self._readable.of(found, worker_of)

    async def server_version(self) -> str:
        with ledger_errors(), pymongo.timeout(ANSWER_S):
            info = await self._server.client.server_info()
        return str(info["version"])

    @property
    def requests(self) -> MongoRequests:
        return MongoRequests(self._server)

    @property
    def _server(self) -> Connection:
        if self._open is None or self._process != os.getpid():
            raise RuntimeError(
                "the ledger is not open in this process: await start() first (a fork needs a "
                "broker of its own, and handles from it: `broker.handle(job_id)`)"
            )
        return self._open

    async def _jobs(self, query: Document, sort: list[tuple[str, int]], limit: int) -> list[Job]:
        """The readable jobs; the others are left out."""
        asked = limit
        while True:
            with ledger_errors(), pymongo.timeout(ANSWER_S):
                found = await self._server.jobs.find(
                    query, {"journal": 0}, sort=sort, limit=asked, batch_size=asked + 1
                ).to_list(None)
            jobs = self._readable.of(found, job_of)
            if len(jobs) >= limit or len(found) < asked:
                return jobs[:limit]
            asked += len(found) - len(jobs)


def _queued_in(broker: str, queue: str) -> Document:
    return {
        "broker": broker,
        "due_at": HAS_DUE_AT,
        "queue": queue,
        "status": Status.QUEUED.value,
    }
