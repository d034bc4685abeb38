"""The audit in MongoDB: one pass over the jobs, of which only counts come back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from motor.motor_asyncio import AsyncIOMotorCollection

from api_shared.job import TERMINAL, Status
from api_shared.ledger.audit import EXAMPLES, Audit, Finding, Scope, Violation
from api_shared.ledger.mongo.documents import Document

_ENDS = sorted(status.value for status in TERMINAL)


async def count_jobs(
    jobs: AsyncIOMotorCollection[Document],
    scope: Scope,
    *,
    overdue_s: float,
    dispatched: Collection[str],
) -> Audit:
    """Count as `audit_of` does. Raises what the driver raises."""
    looked_at = stages_of(scope, overdue_s=overdue_s, dispatched=dispatched)
    groups = await jobs.aggregate([*looked_at, {"$group": _SUMS}], allowDiskUse=True).to_list(None)
    if not groups:
        return Audit()
    counts: dict[str, Any] = {
        name: int(count) for name, count in groups[0].items() if name != "_id"
    }
    if not counts["lost"] and not counts["ended_twice"]:
        return Audit(**counts)
    named: list[Document] = [
        {"$match": {"$or": [{"lost": {"$ne": None}}, {"ended_twice": True}]}},
        {"$limit": EXAMPLES},
    ]
    found = await jobs.aggregate([*looked_at, *named]).to_list(None)
    return Audit(**counts, findings=tuple(f for each in found for f in _findings(each))[:EXAMPLES])


def stages_of(scope: Scope, *, overdue_s: float, dispatched: Collection[str]) -> list[Document]:
    """The stages of the pipeline: the jobs of the scope, each as its counts."""
    accepted: Document = {}
    if scope.since is not None:
        accepted["$gte"] = scope.since
    if scope.until is not None:
        accepted["$lt"] = scope.until
    query: Document = {"accepted_at": accepted} if accepted else {}
    if scope.correlation_id is not None:
        query["correlation_id"] = {"$eq": scope.correlation_id}
    rounds = {
        "$map": {
            "input": {
                "$filter": {
                    "input": {"$ifNull": ["$history", []]},
                    "as": "entry",
                    "cond": {"$in": ["$$entry.status", _ENDS]},
                }
            },
            "as": "entry",
            "in": "$$entry.round",
        }
    }
    looked_at = {
        "status": 1,
        "claim_no": 1,
        "late_writes_refused": {"$ifNull": ["$late_writes", 0]},
        "lost": _lost(overdue_s, dispatched),
        "ended_twice": {"$gt": [{"$size": rounds}, {"$size": {"$setUnion": [rounds, []]}}]},
    }
    return [{"$match": query}, {"$project": looked_at}]


def _lost(overdue_s: float, dispatched: Collection[str]) -> Document:
    latest = {"$subtract": ["$$NOW", round(overdue_s * 1000)]}
    has_time = {"$ne": [{"$type": "$due_at"}, "missing"]}
    is_overdue = {
        "$and": [
            {"$in": ["$broker", {"$literal": sorted(dispatched)}]},
            {"$lte": ["$due_at", latest]},
        ]
    }
    is_untold = {
        "$and": [
            {"$eq": ["$status", Status.FAILED.value]},
            {"$ne": [{"$ifNull": ["$failure_told", False]}, True]},
        ]
    }
    branches: list[tuple[Any, Violation | None]] = [
        ({"$and": [has_time, is_overdue]}, Violation.OVERDUE),
        (has_time, None),
        ({"$not": [{"$in": ["$status", _ENDS]}]}, Violation.STRANDED),
        (is_untold, Violation.NO_DEAD_LETTER),
    ]
    return {
        "$switch": {
            "branches": [
                {"case": case, "then": None if broken is None else broken.value}
                for case, broken in branches
            ],
            "default": None,
        }
    }


def _sum_if(condition: Document) -> Document:
    return {"$sum": {"$cond": [condition, 1, 0]}}


_SUMS: Document = {
    "_id": None,
    "accepted": {"$sum": 1},
    **{status: _sum_if({"$eq": ["$status", status]}) for status in _ENDS},
    "open": _sum_if({"$not": [{"$in": ["$status", _ENDS]}]}),
    "lost": _sum_if({"$ne": ["$lost", None]}),
    "ended_twice": _sum_if({"$eq": ["$ended_twice", True]}),
    "late_writes_refused": {"$sum": "$late_writes_refused"},
    "ran_again": _sum_if({"$gt": ["$claim_no", 1]}),
}


def _findings(document: Document) -> list[Finding]:
    job_id = str(document["_id"])
    found = [Finding(job_id, Violation(document["lost"]))] if document["lost"] else []
    if document["ended_twice"]:
        found.append(Finding(job_id, Violation.ENDED_TWICE))
    return found
