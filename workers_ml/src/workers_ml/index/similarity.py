"""Similarity search: documents like a text, or like another document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workers_ml.features import FEATURES, count_features
from workers_ml.index.bm25 import Bm25, Query, Scores
from workers_ml.index.errors import OtherFeatures, UnknownDocument
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.format.id_lookup import IdLookup
from workers_ml.index.reader import IndexReader


@dataclass(frozen=True, slots=True)
class Neighbour:
    document_id: str
    score: float


class SimilarityIndex:
    """An opened index, ready to search. It answers from one state of the index for all its life."""

    def __init__(self, project_id: str, reader: IndexReader) -> None:
        if reader.manifest.features != FEATURES:
            raise OtherFeatures(project_id, reader.manifest.features, FEATURES)
        self.project_id = project_id
        self.digest = reader.digest
        self.documents = reader.manifest.documents
        self.generation = reader.manifest.generation
        self._ids = reader.ids
        self._bm25 = Bm25(reader.segments)
        self.size_bytes = reader.manifest.size_bytes + self._bm25.size_bytes

    @classmethod
    def open(cls, files: IndexFiles) -> SimilarityIndex:
        """Raises `NoIndex`, `BrokenIndex`, `OtherFeatures`."""
        return cls(files.project_id, IndexReader.open(files))

    def similar_to_text(self, text: str, k: int) -> list[Neighbour]:
        """At most `k` documents that share a feature with `text`, the most similar first."""
        return ranked(self._bm25.scores(Query(*count_features([text]).row(0))), self._ids, k)

    def similar_to_document(self, document_id: str, k: int) -> list[Neighbour]:
        """As for the text of the document, but without the document. Raises `UnknownDocument`."""
        (row,) = self._ids.find([document_id])
        if row is None:
            raise UnknownDocument(self.project_id, document_id)
        scores = self._bm25.scores(Query(*self._ids.row(row)))
        scores[row] = 0.0
        return ranked(scores, self._ids, k)


def ranked(scores: Scores, ids: IdLookup, k: int) -> list[Neighbour]:
    """The `k` best scores above 0. Of documents with equal scores, the lower id comes first."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > k:
        of_candidates = scores[candidates]
        least = np.partition(of_candidates, len(candidates) - k)[len(candidates) - k]
        candidates = candidates[of_candidates >= least]
    found = [Neighbour(ids.document_id(row), float(scores[row])) for row in candidates.tolist()]
    return sorted(found, key=lambda each: (-each.score, each.document_id))[:k]
