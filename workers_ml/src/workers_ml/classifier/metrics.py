"""Metrics of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Metrics:
    """
    `confusion[i, j]` counts documents of class i that were predicted as j. Precision, recall and
    F1 are by class, and 0 where the denominator is 0; `support` is the number of documents of each
    class. `macro_f1` is the mean over the classes that occur or were predicted.
    """

    confusion: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    accuracy: float
    macro_f1: float


def measure(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Metrics:
    confusion = np.bincount(true * classes + predicted, minlength=classes * classes)
    confusion = confusion.reshape(classes, classes)
    right = np.diag(confusion).astype(np.float64)
    support, guessed = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = _ratio(2 * right, support + guessed)
    present = (support + guessed) > 0
    return Metrics(
        confusion=confusion,
        precision=_ratio(right, guessed),
        recall=_ratio(right, support),
        f1=f1,
        support=support,
        accuracy=float(right.sum() / len(true)) if len(true) else 0.0,
        macro_f1=float(f1[present].mean()) if present.any() else 0.0,
    )


def _ratio(part: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
