"""Scores against the formula, written down a second time without arrays."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from fixtures.indexes import WORDS, files_in, index, random_texts
from workers_ml.features import count_features
from workers_ml.index import SimilarityIndex
from workers_ml.index.bm25 import DENSE_SHARE, K1, K3, B
from workers_ml.index.merge import Sizes

Bag = Counter[int]


def bag_of(text: str) -> Bag:
    features, counts = count_features([text]).row(0)
    return Counter(dict(zip(features.tolist(), counts.tolist(), strict=True)))


def naive_scores(query: Bag, bags: dict[str, Bag]) -> dict[str, float]:
    mean = sum(bag.total() for bag in bags.values()) / len(bags)
    scores = {}
    for name, bag in bags.items():
        score = 0.0
        for feature, count in query.items():
            holders = sum(feature in other for other in bags.values())
            rarity = math.log(1 + (len(bags) - holders + 0.5) / (holders + 0.5))
            norm = K1 * (1 - B + B * bag.total() / mean)
            impact = bag[feature] * (K1 + 1) / (bag[feature] + norm)
            score += count * (K3 + 1) / (count + K3) * rarity * impact
        scores[name] = score
    return {name: score for name, score in scores.items() if score > 0}


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(documents=7, postings=100, small_segments=2)])
def test_scores_are_those_of_the_formula(tmp_path: Path, sizes: Sizes) -> None:
    files = files_in(tmp_path)
    index(files, random_texts(1), sizes=sizes)
    texts = random_texts(2)
    index(files, texts, sizes=sizes)
    check(SimilarityIndex.open(files), texts)


def test_frequent_words_are_scored_like_rare_ones(tmp_path: Path) -> None:
    """In a segment so large that frequent words are kept as one number a document."""
    rng = Random(1)
    texts = {f"d{n:03}": " ".join(rng.choices(WORDS, k=5)) + f" rare{n % 90}" for n in range(700)}
    assert 700 * DENSE_SHARE > 64
    files = files_in(tmp_path)
    index(files, texts, sizes=Sizes())
    check(SimilarityIndex.open(files), texts, queries=["red rare7", "cold cold cold warm round"])


def check(
    searched: SimilarityIndex, texts: dict[str, str], queries: list[str] | None = None
) -> None:
    bags = {name: bag_of(text) for name, text in texts.items()}
    for query in queries or ["red", "red green", "loud loud loud flat", " ".join(WORDS)]:
        wanted = naive_scores(bag_of(query), bags)
        found = searched.similar_to_text(query, len(texts))
        assert {each.document_id for each in found} == wanted.keys()
        for each in found:
            assert each.score == pytest.approx(wanted[each.document_id], rel=1e-5)
        assert found == sorted(found, key=lambda each: (-each.score, each.document_id))
        assert searched.similar_to_text(query, 3) == found[:3]
