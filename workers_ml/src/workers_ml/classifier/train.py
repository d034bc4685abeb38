"""Training of a classifier: hold out, fit class by class, calibrate, measure."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from workers_ml.classifier.calibration import calibration_error, fit_temperature, probabilities
from workers_ml.classifier.classifier import TextClassifier
from workers_ml.classifier.errors import NotTrainable
from workers_ml.classifier.examples import Examples
from workers_ml.classifier.metrics import Metrics, measure
from workers_ml.classifier.split import hold_out
from workers_ml.features import fit_weighting

OnFit = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    c: float = 1.0
    min_df: int = 2
    hold_out_share: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """
    `metrics` and `calibration_error` are measured on the held-out documents; for the latter each
    half is measured with the temperature of the other half. `unconverged` counts the classes whose
    fit reached the limit of iterations.
    """

    classifier: TextClassifier
    metrics: Metrics
    calibration_error: float
    trained_on: int
    held_out: int
    unconverged: int


def train(
    examples: Examples, options: TrainingOptions, on_fit: OnFit = lambda done, total: None
) -> Trained:
    """
    `on_fit` is called with the number of classes done and of all classes. The same examples,
    options and machine give the same bits. Raises `NotTrainable`.
    """
    held_out = hold_out(examples, options.hold_out_share, options.seed)
    rows = examples.rows.take(~held_out)
    weighting = fit_weighting(rows, min_df=options.min_df)
    if not len(weighting.features):
        raise NotTrainable(
            f"no word occurs in {options.min_df} documents: lower min_df, or use longer texts"
        )
    weights, intercepts, unconverged = _fit(
        weighting.weigh(rows), examples.labels[~held_out], len(examples.classes), options, on_fit
    )
    uncalibrated = TextClassifier(examples.classes, weighting, weights, intercepts)
    true = examples.labels[held_out]
    scores = uncalibrated.scores(examples.rows.take(held_out))
    return Trained(
        classifier=replace(uncalibrated, temperature=fit_temperature(scores, true)),
        metrics=measure(true, scores.argmax(axis=1), len(examples.classes)),
        calibration_error=_cross_error(scores, true),
        trained_on=len(rows),
        held_out=len(true),
        unconverged=unconverged,
    )


def _fit(
    matrix: csr_matrix,
    labels: NDArray[np.int64],
    classes: int,
    options: TrainingOptions,
    on_fit: OnFit,
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """
    One class against the rest, one at a time: as LinearSVC does itself, but with progress, and the
    time limit can stop it between classes. Weights are rounded to the precision of a stored model.
    """
    weights = np.empty((matrix.shape[1], classes), np.float32)
    intercepts = np.empty(classes, np.float32)
    unconverged = 0
    on_fit(0, classes)
    for number in range(classes):
        model = LinearSVC(C=options.c, tol=1e-2, random_state=options.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix, labels == number)
        unconverged += int(model.n_iter_ >= model.max_iter)
        weights[:, number] = model.coef_[0].astype(np.float16)
        intercepts[number] = model.intercept_[0]
        on_fit(number + 1, classes)
    return weights, intercepts, unconverged


def _cross_error(scores: NDArray[np.float32], true: NDArray[np.int64]) -> float:
    halves = (np.arange(len(true)) % 2).astype(np.bool_)
    if len(true) < 2:
        return 0.0
    confidence = np.empty(len(true), np.float32)
    for half in (halves, ~halves):
        temperature = fit_temperature(scores[~half], true[~half])
        confidence[half] = probabilities(scores[half], temperature).max(axis=1)
    return calibration_error(confidence, scores.argmax(axis=1) == true)
