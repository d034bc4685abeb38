"""Cross-validation on the data sets of scikit-learn: for a first try, and for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

DATASETS = {"digits": load_digits, "wine": load_wine, "breast_cancer": load_breast_cancer}


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """Accuracy and macro-F1 on the held-out folds, mean over all fits."""

    documents: int
    features: int
    classes: int
    accuracy: float
    macro_f1: float
    fits: int


def cross_validate(
    dataset_id: str,
    *,
    c: float = 1.0,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    on_fit: Callable[[int, int], None] = lambda done, total: None,
) -> CrossValidated:
    """
    Fit on all folds but one and score on that fold, `repeats` times with different splits.

    The features are standardised on the fitted folds, never on the held-out one. `on_fit` is called
    with the number of fits done and of all fits.
    """
    features, labels = DATASETS[dataset_id](return_X_y=True)
    accuracies: list[float] = []
    f1_scores: list[float] = []
    total = folds * repeats
    for repeat in range(repeats):
        split = StratifiedKFold(folds, shuffle=True, random_state=seed + repeat)
        for fitted, held_out in split.split(features, labels):
            model = make_pipeline(StandardScaler(), LinearSVC(C=c, tol=1e-2, random_state=seed))
            model.fit(features[fitted], labels[fitted])
            predicted = model.predict(features[held_out])
            accuracies.append(float(accuracy_score(labels[held_out], predicted)))
            f1_scores.append(float(f1_score(labels[held_out], predicted, average="macro")))
            on_fit(len(accuracies), total)
    return CrossValidated(
        documents=len(labels),
        features=features.shape[1],
        classes=len(set(labels.tolist())),
        accuracy=fmean(accuracies),
        macro_f1=fmean(f1_scores),
        fits=total,
    )
