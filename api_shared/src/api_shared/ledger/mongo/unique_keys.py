"""The holders of unique keys, for duplicates in the index `unique`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from motor.motor_asyncio import AsyncIOMotorCollection

from api_shared.ledger.mongo.documents import Document
from api_shared.ledger.mongo.indexes import HOLDS_ITS_KEY

UniqueKey = tuple[str, str]
"""A task, and the unique key of a job of it."""


def taken_key(error: Mapping[str, Any]) -> UniqueKey | None:
    """The unique key whose duplicate a write was. None: it was the duplicate of an id."""
    value = error.get("keyValue", {})
    return (value["task"], value["unique_key"]) if "unique_key" in value else None


async def holders_of(
    jobs: AsyncIOMotorCollection[Document], keys: Iterable[UniqueKey]
) -> dict[UniqueKey, Document]:
    """The record that holds each key. Keys that were freed meanwhile are missing."""
    queries = [{**HOLDS_ITS_KEY, "task": task, "unique_key": key} for task, key in set(keys)]
    if not queries:
        return {}
    found = await jobs.find({"$or": queries}, batch_size=len(queries) + 1).to_list(None)
    return {(document["task"], document["unique_key"]): document for document in found}
