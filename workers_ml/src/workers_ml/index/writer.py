"""The writer of new segments."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from api_shared.storage import StorageError
from workers_ml.features import FeatureRows, join_rows
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.format.manifest import IndexFile, SegmentEntry
from workers_ml.index.format.segment import Segment
from workers_ml.index.merge import Sizes


class SegmentWriter:
    """
    Writes the files of one run, under names that no other run uses.

    Rows are buffered in memory until they fill a segment.
    """

    def __init__(self, files: IndexFiles, sizes: Sizes) -> None:
        self.run = uuid4().hex
        self.names: list[str] = []
        self.entries: list[SegmentEntry] = []
        self.documents = 0
        self._files = files
        self._sizes = sizes
        self._ids: list[str] = []
        self._hashes: list[bytes] = []
        self._rows: list[FeatureRows] = []
        self._postings = 0

    def add(self, ids: Sequence[str], hashes: Sequence[bytes], rows: FeatureRows) -> None:
        self._ids += ids
        self._hashes += hashes
        self._rows.append(rows)
        self._postings += len(rows.features)
        self.documents += len(ids)
        if self._postings >= self._sizes.postings or len(self._ids) >= self._sizes.documents:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows."""
        if self._ids:
            segment = Segment.build(self._ids, self._hashes, join_rows(self._rows))
            self._ids, self._hashes, self._rows, self._postings = [], [], [], 0
            self.entries.append(self.write(segment))

    def write(self, segment: Segment) -> SegmentEntry:
        file = self._files.save_segment(self._new_name("segment"), segment)
        return SegmentEntry(file=file, documents=len(segment), postings=len(segment.postings))

    def write_dead_rows(self, rows: NDArray[np.intp]) -> IndexFile:
        return self._files.save_dead_rows(self._new_name("dead"), rows)

    def discard(self) -> None:
        """Delete the files of this run; the next run deletes what cannot be deleted now."""
        for name in self.names:
            with contextlib.suppress(StorageError, OSError):
                self._files.delete(name)

    def _new_name(self, kind: str) -> str:
        name = f"{self.run}-{len(self.names)}.{kind}"
        self.names.append(name)
        return name
