"""
Our text classifier beside plain TfidfVectorizer + LinearSVC, on the same split.

    python bench/text_classification.py [--seeds 3]

The corpus is the standard library's docstrings, labelled by module: its size differs a little from
one Python to another. Exits with 1 if ours is below on the mean.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from docstrings import docstrings
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from workers_ml.classifier import Examples, TrainingOptions, train
from workers_ml.classifier.split import hold_out
from workers_ml.features import count_features

Labels = NDArray[np.int64]
Run = Callable[[], tuple[Labels, float, float]]
"""Labels predicted for what was held out, seconds to fit, seconds to predict."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    corpus = docstrings()
    texts = np.array([each.text for each in corpus], object)
    labels = [each.label for each in corpus]
    print(
        f"{len(corpus):,} documents, {len(set(labels))} labels, {len(seeds)} splits, 20 % held out"
    )
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for seed in seeds:
        examples = Examples.of(count_features([""] * len(labels)), labels, [None] * len(labels))
        held_out = hold_out(examples, 0.2, seed)
        true = examples.labels[held_out]
        runs: dict[str, Run] = {
            "plain TfidfVectorizer + LinearSVC": lambda h=held_out, e=examples: plain(texts, e, h),
            "the same with 1-2-grams, sublinear": lambda h=held_out, e=examples: plain(
                texts, e, h, ngram_range=(1, 2), sublinear_tf=True
            ),
            "ours": lambda h=held_out, s=seed: ours(texts, labels, h, s),
        }
        for name, run in runs.items():
            predicted, fit_s, predict_s = run()
            f1 = f1_score(true, predicted, average="macro")
            rows.setdefault(name, []).append(
                (float(f1), float(accuracy_score(true, predicted)), fit_s, predict_s)
            )
    print(f"{'':36}{'macro-F1':>9}{'accuracy':>10}{'fit s':>8}{'predict s':>11}")
    means = {
        name: [fmean(column) for column in zip(*all_, strict=True)] for name, all_ in rows.items()
    }
    for name, (f1, accuracy, fit_s, predict_s) in means.items():
        print(f"{name:36}{f1:9.4f}{accuracy:10.4f}{fit_s:8.2f}{predict_s:11.3f}")
    return int(means["ours"][0] < means["plain TfidfVectorizer + LinearSVC"][0])


def plain(
    texts: NDArray[np.object_], examples: Examples, held_out: NDArray[np.bool_], **options: object
) -> tuple[Labels, float, float]:
    pipeline = make_pipeline(TfidfVectorizer(**options), LinearSVC(random_state=0))
    started = time.perf_counter()
    pipeline.fit(texts[~held_out], examples.labels[~held_out])
    fitted = time.perf_counter()
    predicted: Labels = pipeline.predict(texts[held_out])
    return predicted, fitted - started, time.perf_counter() - fitted


def ours(
    texts: NDArray[np.object_], labels: list[str], held_out: NDArray[np.bool_], seed: int
) -> tuple[Labels, float, float]:
    """From the texts on, with hold-out and calibration; the split is the same by its seed."""
    count_features(["its tables are built once"])
    started = time.perf_counter()
    examples = Examples.of(count_features(texts.tolist()), labels, [None] * len(labels))
    trained = train(examples, TrainingOptions(seed=seed))
    fitted = time.perf_counter()
    classifier = trained.classifier
    predicted: Labels = classifier.scores(count_features(texts[held_out].tolist())).argmax(axis=1)
    took_s = time.perf_counter() - fitted
    assert np.array_equal(hold_out(examples, 0.2, seed), held_out)
    return predicted, fitted - started, took_s


if __name__ == "__main__":
    sys.exit(main())
