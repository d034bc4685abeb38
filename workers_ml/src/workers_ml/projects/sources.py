"""Sources of a project's documents as features: its index, or files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api_shared.contracts.ml import DocumentOptions
from api_shared.storage import Storage
from workers_ml.documents import (
    Document,
    DocumentsUnreadable,
    Fields,
    MissingExtra,
    RowCounts,
    TooManyMalformed,
    read_documents,
    well_formed,
)
from workers_ml.features import FEATURES, FeatureRows, batches_of, count_features
from workers_ml.index import BrokenIndex, IndexFiles, NoIndex, OtherFeatures
from workers_ml.index.format.segment import Segment
from workers_ml.index.reader import IndexReader

BATCH_ROWS = 2048

PERMANENT_ERRORS = (
    BrokenIndex,
    DocumentsUnreadable,
    MissingExtra,
    NoIndex,
    OtherFeatures,
    TooManyMalformed,
)
"""Errors of reading a source that no retry can fix."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents; `hashes` identify their texts, `groups` are those that the files name."""

    ids: list[str]
    rows: FeatureRows
    hashes: list[bytes]
    groups: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, ids: Collection[str]) -> Batch:
        """The documents with these ids; `ids` must be a set or a dict."""
        kept = np.fromiter((name in ids for name in self.ids), np.bool_, len(self.ids))
        if kept.all():
            return self
        places = np.flatnonzero(kept).tolist()
        return Batch(
            [self.ids[place] for place in places],
            self.rows.take(kept),
            [self.hashes[place] for place in places],
            [self.groups[place] for place in places],
        )


@dataclass(frozen=True, slots=True)
class Source:
    """`total` is None if the number of documents is not known in advance. Read it once."""

    batches: Iterator[Batch]
    total: int | None


def source_from_index(storage: Storage, project_id: str) -> Source:
    """Raises `NoIndex`, `BrokenIndex`, `OtherFeatures`."""
    reader = IndexReader.open(IndexFiles(storage, project_id))
    if reader.manifest.features != FEATURES:
        raise OtherFeatures(project_id, reader.manifest.features, FEATURES)
    return Source(_of_index(reader), reader.manifest.documents)


def source_of(
    storage: Storage,
    project_id: str,
    documents_path: str | None,
    options: DocumentOptions,
    counts: RowCounts,
) -> Source:
    """The files at `documents_path`, or the project's index if that is None."""
    if documents_path is None:
        return source_from_index(storage, project_id)
    fields = Fields(id=options.id_field, text=options.text_field, group=options.group_field)
    share = options.max_malformed_share
    return source_from_path(documents_path, fields, counts, max_malformed_share=share)


def source_from_path(
    path: str | Path, fields: Fields, counts: RowCounts, *, max_malformed_share: float
) -> Source:
    """Reading it raises the errors of `read_documents` and `well_formed`."""
    documents = well_formed(
        read_documents(path, fields), counts, max_malformed_share=max_malformed_share
    )
    return Source(map(_of_documents, batches_of(documents)), None)


def _of_documents(documents: list[Document]) -> Batch:
    texts = [document.text for document in documents]
    return Batch(
        [document.id for document in documents],
        count_features(texts),
        [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts],
        [document.group for document in documents],
    )


def _of_index(reader: IndexReader) -> Iterator[Batch]:
    for each in reader.segments:
        for begin in range(0, len(each.segment), BATCH_ROWS):
            rows = np.arange(begin, min(begin + BATCH_ROWS, len(each.segment)))
            kept = each.live[rows]
            if kept.any():
                yield _of_segment(each.segment, rows, kept)


def _of_segment(segment: Segment, rows: NDArray[np.int64], kept: NDArray[np.bool_]) -> Batch:
    first, end = int(rows[0]), int(rows[-1]) + 1
    starts = segment.rows.starts[first : end + 1]
    part = slice(int(starts[0]), int(starts[-1]))
    all_rows = FeatureRows(
        starts - starts[0], segment.rows.features[part], segment.rows.counts[part]
    )
    numbers = rows[kept].tolist()
    return Batch(
        [segment.document_id(number) for number in numbers],
        all_rows.take(kept),
        [segment.hashes[number].tobytes() for number in numbers],
        [None] * len(numbers),
    )
