"""Texts become the same numbers everywhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from workers_ml.documents import Document
from workers_ml.features import (
    batches_of,
    count_features,
    fit_weighting,
    join_rows,
)

TEXTS = [
    "The quick brown fox jumps over the lazy dog; the DOG sleeps.",
    "Größe ändert Straße! ΣΊΣΥΦΟΣ और भारत 北京 大学 x y",
    "",
    "a b c",
    "one_two 3.14 don't",
    "the quick dog " * 50,
]

DIGEST = """
import hashlib
from workers_ml.features import count_features, fit_weighting
rows = count_features(%r)
matrix = fit_weighting(rows, min_df=1).weigh(rows)
parts = (rows.starts, rows.features, rows.counts, matrix.data, matrix.indices, matrix.indptr)
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_two_processes_give_the_same_bits() -> None:
    def digest(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", DIGEST % TEXTS],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert digest("1") == digest("2")


def test_the_features_of_a_text_never_change() -> None:
    """An index and a model hold them: another hash here wants another name in FEATURES."""
    rows = count_features(["Rates rise again, and rates rise"])
    assert rows.features.tolist() == EXPECTED_FEATURES
    assert rows.counts.tolist() == EXPECTED_COUNTS


EXPECTED_FEATURES = [517644, 856957, 1087887, 1282776, 2431125, 2712472, 2811438, 3281697]
EXPECTED_COUNTS = [1, 1, 2, 1, 1, 2, 2, 1]


def test_the_counts_are_those_of_scikit_learn() -> None:
    theirs = CountVectorizer(ngram_range=(1, 2)).fit_transform(TEXTS)
    ours = count_features(TEXTS)
    for row in range(len(TEXTS)):
        counts = sorted(theirs[row].data.tolist())
        assert sorted(ours.row(row)[1].tolist()) == counts


def test_the_weights_are_those_of_scikit_learn() -> None:
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    theirs = vectoriser.fit_transform(TEXTS)
    rows = count_features(TEXTS)
    ours = fit_weighting(rows, min_df=2).weigh(rows)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert np.allclose((ours @ ours.T).toarray(), (theirs @ theirs.T).toarray(), atol=1e-6)


@given(st.lists(st.text(), max_size=6))
def test_a_row_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    together = count_features(texts)
    alone = join_rows([count_features([text]) for text in texts])
    assert len(together) == len(texts)
    for name in ("starts", "features", "counts"):
        assert np.array_equal(getattr(together, name), getattr(alone, name))
    for row in range(len(texts)):
        features = together.row(row)[0]
        assert (np.diff(features.astype(np.int64)) > 0).all()


def test_pairs_are_ordered_and_do_not_cross_texts() -> None:
    first, second = count_features(["red car", "car red"]).row(0), count_features(["car red"])
    assert first[0].tolist() != second.features.tolist()
    assert len(count_features(["red", "car"]).features) == 2


def test_a_count_saturates() -> None:
    assert count_features(["word " * 70_000]).counts.max() == 2**16 - 1


def test_rows_can_be_taken() -> None:
    rows = count_features(TEXTS)
    taken = rows.take(np.array([True, False, True, False, False, True]))
    assert len(taken) == 3
    assert taken.row(2)[1].tolist() == rows.row(5)[1].tolist()


def test_what_was_not_seen_when_weights_were_fitted_weighs_nothing() -> None:
    weighting = fit_weighting(count_features(["red car", "red house"]), min_df=2)
    assert len(weighting.features) == 1
    matrix = weighting.weigh(count_features(["blue", "red blue", ""]))
    assert matrix.toarray().tolist() == [[0], [1], [0]]


def test_weighing_with_no_features_gives_empty_rows() -> None:
    none = fit_weighting(count_features([""]), min_df=1)
    assert none.weigh(count_features(["a text"])).shape == (1, 0)


def test_batches_are_bounded_and_keep_the_order() -> None:
    documents = [Document(str(number), "x" * 400_000) for number in range(5)]
    documents.insert(2, Document("huge", "x" * 3_000_000))
    batches = list(batches_of(documents))
    assert [len(batch) for batch in batches] == [2, 1, 2, 1]
    assert [document for batch in batches for document in batch] == documents


def test_empty_rows_join() -> None:
    assert len(join_rows([])) == 0
    assert fit_weighting(join_rows([]), min_df=1).weigh(join_rows([])).shape == (0, 0)
