"""Train a support vector machine, in a process that can be killed."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from taskiq import TaskiqDepends

from api_shared.brokers import ml_broker
from api_shared.contracts.ml import TRAIN_MODEL, TrainModelArgs, TrainModelResult
from api_shared.worker.context import JobContext

DATASETS = {"digits": load_digits, "wine": load_wine, "breast_cancer": load_breast_cancer}


@ml_broker.task(TRAIN_MODEL)
def train_model(args: TrainModelArgs, job: JobContext = TaskiqDepends()) -> TrainModelResult:
    return cross_validate(args, lambda done, total: job.progress(done, total, stage="train"))


def cross_validate(
    args: TrainModelArgs, on_fit: Callable[[int, int], None] = lambda done, total: None
) -> TrainModelResult:
    """
    Fit on all folds but one and score on that one, `repeats` times with other splits.

    The features are standardised on the folds that are fitted, never on the one held out.
    `on_fit` is told fits done and fits in all.
    """
    features, labels = DATASETS[args.dataset](return_X_y=True)
    accuracies: list[float] = []
    f1_scores: list[float] = []
    total = args.folds * args.repeats
    for repeat in range(args.repeats):
        folds = StratifiedKFold(args.folds, shuffle=True, random_state=args.seed + repeat)
        for fitted, held_out in folds.split(features, labels):
            model = make_pipeline(
                StandardScaler(), LinearSVC(C=args.c, tol=1e-2, random_state=args.seed)
            )
            model.fit(features[fitted], labels[fitted])
            predicted = model.predict(features[held_out])
            accuracies.append(float(accuracy_score(labels[held_out], predicted)))
            f1_scores.append(float(f1_score(labels[held_out], predicted, average="macro")))
            on_fit(len(accuracies), total)
    return TrainModelResult(
        dataset=args.dataset,
        documents=len(labels),
        features=features.shape[1],
        classes=len(set(labels.tolist())),
        accuracy=fmean(accuracies),
        macro_f1=fmean(f1_scores),
        fits=total,
    )
