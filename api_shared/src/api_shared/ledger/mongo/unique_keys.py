"""Who holds a unique key: what a duplicate in the index `unique` means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from motor.motor_asyncio import AsyncIOMotorCollection

from api_shared.ledger.mongo.documents import Document
from api_shared.ledger.mongo.indexes import HOLDS_ITS_KEY

UniqueKey = tuple[str, str]
"""A task, and a key of its jobs."""


def taken_key(error: Mapping[str, Any]) -> UniqueKey | None:
    """Whose duplicate a write was; None: it was no unique key's but an id's."""
    value = error.get("keyValue", {})
    return (value["task"], value["unique_key"]) if "unique_key" in value else None


async def holders_of(
    jobs: AsyncIOMotorCollection[Document], keys: Iterable[UniqueKey]
) -> dict[UniqueKey, Document]:
    """The record that holds each key; one that was freed meanwhile is missing."""
    wanted = [{**HOLDS_ITS_KEY, "task": task, "unique_key": key} for task, key in set(keys)]
    if not wanted:
        return {}
    found = await jobs.find({"$or": wanted}, batch_size=len(wanted) + 1).to_list(None)
    return {(document["task"], document["unique_key"]): document for document in found}
