"""Documents like a text, or like another document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workers_ml.features import FEATURES, count_features
from workers_ml.index.bm25 import Bm25, Query, Scores
from workers_ml.index.errors import OtherFeatures, UnknownDocument
from workers_ml.index.files import IndexFiles
from workers_ml.index.id_lookup import Directory
from workers_ml.index.reader import OpenedIndex


@dataclass(frozen=True, slots=True)
class Neighbour:
    document_id: str
    score: float


class SimilarityIndex:
    """An opened index, ready to search. It answers from one state of the index for all its life."""

    def __init__(self, project_id: str, opened: OpenedIndex) -> None:
        if opened.manifest.features != FEATURES:
            raise OtherFeatures(project_id, opened.manifest.features, FEATURES)
        self.project_id = project_id
        self.digest = opened.digest
        self.documents = opened.manifest.documents
        self.generation = opened.manifest.generation
        self._directory = opened.directory
        self._bm25 = Bm25(opened.parts)
        self.size_bytes = opened.manifest.size_bytes + self._bm25.size_bytes

    @classmethod
    def open(cls, files: IndexFiles) -> SimilarityIndex:
        """Raises `NoIndex`, `BrokenIndex`, `OtherFeatures`."""
        return cls(files.project_id, OpenedIndex.open(files))

    def similar_to_text(self, text: str, k: int) -> list[Neighbour]:
        """At most `k` documents that share a feature with `text`, the most similar first."""
        return ranked(self._bm25.scores(Query(*count_features([text]).row(0))), self._directory, k)

    def similar_to_document(self, document_id: str, k: int) -> list[Neighbour]:
        """As for its text, without itself. Raises `UnknownDocument`."""
        (row,) = self._directory.find([document_id])
        if row is None:
            raise UnknownDocument(self.project_id, document_id)
        scores = self._bm25.scores(Query(*self._directory.row(row)))
        scores[row] = 0.0
        return ranked(scores, self._directory, k)


def ranked(scores: Scores, directory: Directory, k: int) -> list[Neighbour]:
    """The `k` best above 0. Of documents with one score, the lesser id comes first."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > k:
        of_candidates = scores[candidates]
        least = np.partition(of_candidates, len(candidates) - k)[len(candidates) - k]
        candidates = candidates[of_candidates >= least]
    found = [
        Neighbour(directory.document_id(row), float(scores[row])) for row in candidates.tolist()
    ]
    return sorted(found, key=lambda each: (-each.score, each.document_id))[:k]
