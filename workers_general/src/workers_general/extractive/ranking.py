"""
The graph of a text's sentences, and who in it is central.

Continuous LexRank (Erkan & Radev 2004, https://doi.org/10.1613/jair.1523): sentences are linked as
much as their tf-idf vectors are alike, and PageRank says which one a reader would come by most. The
links are never written down: with A the vectors, a step over all of them is A(Aᵀp) less what goes
from a sentence to itself, so that time grows with the length of the text and not with its square.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

DAMPING = 0.85
MAX_STEPS = 30
CLOSE_ENOUGH = 1e-4
UNLINKED = 1e-9
"""What rounding may leave of a sentence's links where it has none."""

Vector = dict[str, float]
"""The weight of each word."""


def vectors_of(sentences: Sequence[Sequence[str]]) -> list[Vector]:
    """tf-idf of each sentence's words, of length 1; a sentence without words: empty."""
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
    """The share of its time that a reader who follows the links spends with each sentence."""
    count = len(vectors)
    if not count:
        return []
    lengths = [dot(vector, vector) for vector in vectors]
    total = spread(vectors, [1.0] * count)
    links = [dot(vector, total) - length for vector, length in zip(vectors, lengths, strict=True)]
    shares = [1 / link if link > UNLINKED else 0.0 for link in links]
    ranks = [1.0 / count] * count
    for _ in range(MAX_STEPS):
        given = [rank * share for rank, share in zip(ranks, shares, strict=True)]
        unlinked = sum(rank for rank, share in zip(ranks, shares, strict=True) if not share)
        at_random = (1 - DAMPING + DAMPING * unlinked) / count
        pulled = spread(vectors, given)
        after = [
            at_random + DAMPING * (dot(vector, pulled) - length * own)
            for vector, length, own in zip(vectors, lengths, given, strict=True)
        ]
        moved = sum(abs(new - old) for new, old in zip(after, ranks, strict=True))
        ranks = after
        if moved < CLOSE_ENOUGH:
            break
    return ranks


def spread(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """The sum of the vectors, each by its weight."""
    total: Vector = {}
    for vector, weight in zip(vectors, weights, strict=True):
        for word, value in vector.items():
            total[word] = total.get(word, 0.0) + weight * value
    return total


def dot(vector: Vector, other: Vector) -> float:
    return sum(value * other[word] for word, value in vector.items())
