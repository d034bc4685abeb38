"""The classifier that is stored and that predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers_ml.classifier.calibration import probabilities
from workers_ml.features import FeatureRows, Weighting


@dataclass(frozen=True, slots=True)
class Prediction:
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """
    One linear score for each class, and a softmax over the scores.

    `weights` is float32, (features, classes) and C-contiguous: scikit-learn's own `predict` copies
    the whole matrix for each call with a sparse input.
    """

    classes: tuple[str, ...]
    weighting: Weighting
    weights: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    temperature: float = 1.0

    def scores(self, rows: FeatureRows) -> NDArray[np.float32]:
        """(documents, classes)."""
        found: NDArray[np.float32] = self.weighting.weigh(rows) @ self.weights + self.intercepts
        return found

    def predict(self, rows: FeatureRows) -> list[Prediction]:
        """The most likely class of each row."""
        return [best for (best,) in self.predict_top(rows, 1)]

    def predict_top(self, rows: FeatureRows, k: int) -> list[list[Prediction]]:
        """The `k` most likely classes of each row, the most likely first."""
        likely = probabilities(self.scores(rows), self.temperature)
        order = np.argsort(-likely, axis=1, kind="stable")[:, :k]
        return [
            [Prediction(self.classes[number], float(row[number])) for number in best]
            for best, row in zip(order, likely, strict=True)
        ]
