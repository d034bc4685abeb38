"""The readable ones of many records, some of which a newer release may have written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog

from api_shared.errors import UnreadableRecord

T = TypeVar("T")

MOST_NAMED = 1000

log = structlog.get_logger(__name__)


class Readable:
    """Leaves out records that this release cannot read, and logs each of them once."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def of(
        self, documents: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], T]
    ) -> list[T]:
        records = []
        for document in documents:
            try:
                records.append(read(document))
            except UnreadableRecord as error:
                self._name(error)
        return records

    def _name(self, error: UnreadableRecord) -> None:
        if error.record_id not in self._named and len(self._named) < MOST_NAMED:
            self._named.add(error.record_id)
            log.warning("record.unreadable", record=error.record_id, error=str(error))
