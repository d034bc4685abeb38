"""
The ranking of sentences by their centrality in the graph of a text.

Continuous LexRank (Erkan & Radev 2004, https://doi.org/10.1613/jair.1523): sentences are linked as
much as their tf-idf vectors are similar, and PageRank ranks them. The links are never stored: with
A the matrix of vectors, a step over all links is A(Aᵀp) minus the links of sentences to themselves,
so that the time grows with the length of the text and not with its square.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

DAMPING = 0.85
MAX_STEPS = 30
CLOSE_ENOUGH = 1e-4
UNLINKED = 1e-9
"""Rounding may leave up to this much for a sentence without links."""

Vector = dict[str, float]
"""The weight of each word."""


def vectors_of(sentences: Sequence[Sequence[str]]) -> list[Vector]:
    """tf-idf vectors of the sentences, of length 1; empty for a sentence without words."""
    in_sentences = Counter(word for words in sentences for word in set(words))
    count = len(sentences)
    vectors = []
    for words in sentences:
        weights = {
            word: times * (1 + math.log(count / in_sentences[word]))
            for word, times in Counter(words).items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        vectors.append({word: weight / length for word, weight in weights.items()})
    return vectors


def rank_sentences(vectors: Sequence[Vector]) -> list[float]:
    """The PageRank of each sentence; the sum of all is 1."""
    count = len(vectors)
    if not count:
        return []
    lengths = [dot(vector, vector) for vector in vectors]
    total = weighted_sum(vectors, [1.0] * count)
    links = [dot(vector, total) - length for vector, length in zip(vectors, lengths, strict=True)]
    shares = [1 / link if link > UNLINKED else 0.0 for link in links]
    ranks = [1.0 / count] * count
    for _ in range(MAX_STEPS):
        given = [rank * share for rank, share in zip(ranks, shares, strict=True)]
        unlinked = sum(rank for rank, share in zip(ranks, shares, strict=True) if not share)
        at_random = (1 - DAMPING + DAMPING * unlinked) / count
        pulled = weighted_sum(vectors, given)
        after = [
            at_random + DAMPING * (dot(vector, pulled) - length * own)
            for vector, length, own in zip(vectors, lengths, given, strict=True)
        ]
        moved = sum(abs(new - old) for new, old in zip(after, ranks, strict=True))
        ranks = after
        if moved < CLOSE_ENOUGH:
            break
    return ranks


def weighted_sum(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """The weighted sum of the vectors."""
    total: Vector = {}
    for vector, weight in zip(vectors, weights, strict=True):
        for word, value in vector.items():
            total[word] = total.get(word, 0.0) + weight * value
    return total


def dot(vector: Vector, other: Vector) -> float:
    return sum(value * other[word] for word, value in vector.items())
