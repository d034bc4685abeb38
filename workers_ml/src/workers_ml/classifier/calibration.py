"""
Calibration of scores to probabilities: softmax(scores / temperature).

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Scores = NDArray[np.floating]
COLDEST, HOTTEST = 1e-3, 1e3
BINS = 15


def probabilities(scores: Scores, temperature: float) -> NDArray[np.float32]:
    """(documents, classes), rows sum to 1."""
    found: NDArray[np.float32] = softmax(scores / np.float32(temperature), axis=1)
    return found.astype(np.float32)


def fit_temperature(scores: Scores, true: NDArray[np.int64]) -> float:
    """The temperature that makes the true labels most likely."""

    def surprise(log_temperature: float) -> float:
        logs = log_softmax(scores.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(true)), true].mean())

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(surprise, bounds=bounds, method="bounded").x))


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Mean distance between confidence and accuracy over 15 bins of confidence (ECE)."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(sums).sum() / len(confidence)) if len(confidence) else 0.0
