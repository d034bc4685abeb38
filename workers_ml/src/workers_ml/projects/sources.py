"""A project's documents as features: from its index, or from files."""

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
    Tally,
    TooManyMalformed,
    read_documents,
    well_formed,
)
from workers_ml.features import FEATURES, FeatureRows, batches_of, count_features
from workers_ml.index import BrokenIndex, IndexFiles, NoIndex, OtherFeatures
from workers_ml.index.reader import OpenedIndex
from workers_ml.index.segment import Segment

BATCH_ROWS = 2048

HOPELESS = (
    BrokenIndex,
    DocumentsUnreadable,
    MissingExtra,
    NoIndex,
    OtherFeatures,
    TooManyMalformed,
)
"""What reading a source raises and no retry mends."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents; `hashes` tell texts apart, `groups` are those that files name."""

    ids: list[str]
    rows: FeatureRows
    hashes: list[bytes]
    groups: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, wanted: Collection[str]) -> Batch:
        """The documents whose ids are wanted; `wanted` is asked by hash."""
        kept = np.fromiter((name in wanted for name in self.ids), np.bool_, len(self.ids))
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
    """`total` None: how many there are is not known before the end. Read it once."""

    batches: Iterator[Batch]
    total: int | None


def indexed(storage: Storage, project_id: str) -> Source:
    """Raises `NoIndex`, `BrokenIndex`, `OtherFeatures`."""
    opened = OpenedIndex.open(IndexFiles(storage, project_id))
    if opened.manifest.features != FEATURES:
        raise OtherFeatures(project_id, opened.manifest.features, FEATURES)
    return Source(_of_index(opened), opened.manifest.documents)


def source_of(
    storage: Storage,
    project_id: str,
    documents_path: str | None,
    options: DocumentOptions,
    tally: Tally,
) -> Source:
    """The files at `documents_path`, else the project's index."""
    if documents_path is None:
        return indexed(storage, project_id)
    fields = Fields(id=options.id_field, text=options.text_field, group=options.group_field)
    share = options.max_malformed_share
    return from_path(documents_path, fields, tally, max_malformed_share=share)


def from_path(
    path: str | Path, fields: Fields, tally: Tally, *, max_malformed_share: float
) -> Source:
    """While it is read it raises what `read_documents` and `well_formed` raise."""
    documents = well_formed(
        read_documents(path, fields), tally, max_malformed_share=max_malformed_share
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


def _of_index(opened: OpenedIndex) -> Iterator[Batch]:
    for part in opened.parts:
        for begin in range(0, len(part.segment), BATCH_ROWS):
            rows = np.arange(begin, min(begin + BATCH_ROWS, len(part.segment)))
            kept = part.live[rows]
            if kept.any():
                yield _of_segment(part.segment, rows, kept)


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
