"""
Okapi BM25 over inverted segments, exact: every document that shares a feature is scored.

    score(q, d) = Σ_f  w(f, q) · ln(1 + (N - n_f + ½) / (n_f + ½)) · s(f, d)
    s(f, d)     = c(f, d) · (k1 + 1) / (c(f, d) + k1 · (1 - b + b · |d| / avg|d|))
    w(f, q)     = c(f, q) · (k3 + 1) / (c(f, q) + k3)

c counts a feature in a text, |d| is the sum of a document's counts, n_f the documents that hold f,
N all of them. Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
2009, section 3; the logarithm is Lucene's, which is never negative.

Why BM25 and not tf-idf: measured on 60,589 package descriptions, a document's neighbours were of
its own section more often (.476 for .434), and neither has to be fitted, so that adding a document
changes no other document's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers_ml.index.format.segment import LiveSegment

K1 = 1.2
B = 0.75
K3 = 8.0

DENSE_SHARE = 0.125
"""A feature that a larger share of a segment's documents has is kept as one number a document."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Query:
    """Features in ascending order, and their counts in the text."""

    features: NDArray[np.uint32]
    counts: NDArray[np.uint16]

    def weights(self) -> Scores:
        counts = self.counts.astype(np.float64)
        return counts * (K3 + 1) / (counts + K3)


class SegmentScorer:
    """
    One segment, ready to score: s(f, d) of each posting is computed once, as float32.

    A document's score does not depend on which other documents share its segment: its terms are
    added in the order of their features, in float64.
    """

    def __init__(self, live_segment: LiveSegment) -> None:
        segment, live = live_segment.segment, live_segment.live
        self._terms = segment.terms
        self._starts = segment.term_starts
        self._postings = segment.postings
        self._counts = segment.posting_counts
        self.rows = len(segment)
        running = np.concatenate([[0], np.cumsum(segment.rows.counts, dtype=np.int64)])
        self._lengths = np.diff(running[segment.rows.starts]).astype(np.float64)
        self.documents = int(live.sum())
        self.length = int(self._lengths[live].sum())
        if self.documents == self.rows:
            self._document_frequencies = np.diff(self._starts)
        else:
            held = np.concatenate([[0], np.cumsum(live[self._postings], dtype=np.int64)])
            self._document_frequencies = np.diff(held[self._starts])
        self._impacts = np.empty(0, np.float32)
        self._dense: dict[int, NDArray[np.float32]] = {}

    @property
    def size_bytes(self) -> int:
        dense = sum(impacts.nbytes for impacts in self._dense.values())
        return (
            self._impacts.nbytes + self._document_frequencies.nbytes + self._lengths.nbytes + dense
        )

    def prepare(self, mean_length: float) -> None:
        """Compute the impacts, given the average document length over all segments."""
        norms = (K1 * (1 - B + B * self._lengths / mean_length)).astype(np.float32)
        counts = self._counts.astype(np.float32)
        self._impacts = counts * np.float32(K1 + 1) / (counts + norms[self._postings])
        often = np.diff(self._starts) > max(DENSE_SHARE * self.rows, 64)
        for number in np.flatnonzero(often).tolist():
            impacts = np.zeros(self.rows, np.float32)
            part = slice(self._starts[number], self._starts[number + 1])
            impacts[self._postings[part]] = self._impacts[part]
            self._dense[number] = impacts

    def document_frequencies(self, features: NDArray[np.uint32]) -> NDArray[np.int64]:
        """How many live documents have each feature."""
        numbers, found = self._find(features)
        frequencies = np.zeros(len(features), np.int64)
        frequencies[found] = self._document_frequencies[numbers[found]]
        return frequencies

    def score(self, features: NDArray[np.uint32], weights: Scores, into: Scores) -> None:
        """Add to the scores of the documents; a deleted document gets a score too."""
        numbers, found = self._find(features)
        begins, ends = self._starts[numbers[found]], self._starts[numbers[found] + 1]
        for number, weight, begin, end in zip(
            numbers[found].tolist(),
            weights[found].tolist(),
            begins.tolist(),
            ends.tolist(),
            strict=True,
        ):
            dense = self._dense.get(number)
            if dense is not None:
                into += np.multiply(dense, weight, dtype=np.float64)
            else:
                impacts = self._impacts[begin:end]
                into[self._postings[begin:end]] += np.multiply(impacts, weight, dtype=np.float64)

    def _find(self, features: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The number of each term, and whether this segment has the term."""
        if not len(self._terms):
            return np.zeros(len(features), np.intp), np.zeros(len(features), np.bool_)
        numbers = np.searchsorted(self._terms, features)
        numbers[numbers == len(self._terms)] = 0
        return numbers, self._terms[numbers] == features


class Bm25:
    """All segments of an index: document counts and lengths are taken over all of them."""

    def __init__(self, segments: Sequence[LiveSegment]) -> None:
        self._scorers = [SegmentScorer(each) for each in segments]
        self._live = np.concatenate([np.empty(0, np.bool_), *(each.live for each in segments)])
        self._documents = sum(scorer.documents for scorer in self._scorers)
        length = sum(scorer.length for scorer in self._scorers)
        mean_length = length / self._documents if length else 1.0
        for scorer in self._scorers:
            scorer.prepare(mean_length)

    @property
    def size_bytes(self) -> int:
        return sum(scorer.size_bytes for scorer in self._scorers)

    def scores(self, query: Query) -> Scores:
        """The score of each row; 0 for a row that is deleted or shares no feature with `query`."""
        scores = np.zeros(len(self._live))
        frequencies = np.zeros(len(query.features), np.int64)
        for scorer in self._scorers:
            frequencies += scorer.document_frequencies(query.features)
        rarity = np.log1p((self._documents - frequencies + 0.5) / (frequencies + 0.5))
        weights = query.weights() * rarity
        begin = 0
        for scorer in self._scorers:
            scorer.score(query.features, weights, scores[begin : begin + scorer.rows])
            begin += scorer.rows
        scores[~self._live] = 0.0
        return scores
