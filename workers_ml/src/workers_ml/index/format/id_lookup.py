"""A lookup of documents by id, over all segments of an index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers_ml.index.format.hashes import id_keys_of
from workers_ml.index.format.segment import LiveSegment, Segment


class IdLookup:
    """
    The row of each live document.

    Rows are numbered over all segments: row r of segment s is `offsets[s] + r`. Memory holds only
    16 bytes a document; the ids stay in the files of the segments.
    """

    def __init__(self, segments: Sequence[LiveSegment]) -> None:
        self._segments = [each.segment for each in segments]
        sizes = [len(segment) for segment in self._segments]
        self.offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self.live = np.concatenate([np.empty(0, np.bool_), *(each.live for each in segments)])
        keys = [segment.id_keys for segment in self._segments]
        all_keys = np.concatenate([np.empty(0, np.uint64), *keys])
        self._order = np.argsort(all_keys, kind="stable")
        self._keys = all_keys[self._order]

    def __len__(self) -> int:
        return int(self.live.sum())

    def find(self, document_ids: Sequence[str]) -> list[int | None]:
        """The row of each id; None for an id that is not in the index."""
        keys = id_keys_of(document_ids)
        firsts = np.searchsorted(self._keys, keys, "left")
        ends = np.searchsorted(self._keys, keys, "right")
        return [
            self._match(document_id, range(first, end))
            for document_id, first, end in zip(document_ids, firsts, ends, strict=True)
        ]

    def document_id(self, row: int) -> str:
        segment, own_row = self._place(row)
        return segment.document_id(own_row)

    def content_hash(self, row: int) -> bytes:
        segment, own_row = self._place(row)
        return bytes(segment.hashes[own_row])

    def row(self, row: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Features and counts of a document."""
        segment, own_row = self._place(row)
        return segment.rows.row(own_row)

    def _match(self, document_id: str, places: range) -> int | None:
        for place in places:
            row = int(self._order[place])
            if self.live[row] and self.document_id(row) == document_id:
                return row
        return None

    def _place(self, row: int) -> tuple[Segment, int]:
        number = int(np.searchsorted(self.offsets, row, "right")) - 1
        return self._segments[number], row - int(self.offsets[number])
