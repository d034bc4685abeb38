"""The task `train_model`: it trains a classifier."""

from __future__ import annotations

import time

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml import (
    TRAIN_MODEL,
    ClassScore,
    Hyperparameters,
    LabelledDocuments,
    ProjectScore,
    TrainModelArgs,
    TrainModelResult,
)
from api_shared.errors import Discard
from api_shared.storage import Storage
from api_shared.worker.context import JobContext
from workers_ml.classifier import Metrics, NotTrainable, TrainingOptions
from workers_ml.datasets import cross_validate
from workers_ml.documents import RowCounts
from workers_ml.models import ModelRefused, ModelStore, model_id_of
from workers_ml.projects.labels import read_labels
from workers_ml.projects.progress import Report, Stage, report_nothing
from workers_ml.projects.sources import PERMANENT_ERRORS, source_of
from workers_ml.projects.train import ProjectModel, train_project
from workers_ml.storage import worker_storage

MAX_MALFORMED_SHOWN = 20
MAX_PER_CLASS = 1000
MAX_CONFUSION = 100


@ml_broker.task(TRAIN_MODEL)
def train_model(
    args: TrainModelArgs,
    job: JobContext = TaskiqDepends(),
    storage: Storage = TaskiqDepends(worker_storage),
) -> TrainModelResult:
    def report(stage: str, done: float, total: float | None, message: str) -> None:
        job.progress(done, total, stage=stage, message=message)

    try:
        if args.dataset_id is not None:
            return score_dataset(args.dataset_id, args.hyperparameters, report)
        return train_from_labels(args, storage, report)
    except (*PERMANENT_ERRORS, NotTrainable, ModelRefused) as error:
        raise Discard(str(error)) from error


def train_from_labels(
    args: TrainModelArgs, storage: Storage, report: Report = report_nothing
) -> TrainModelResult:
    """Raises `PERMANENT_ERRORS`, `NotTrainable`; the model in force is then as it was."""
    project_id, labels_path = (
        args.project_id or "",
        args.labels_path or "",
    )  # both are given, by validation
    started = time.monotonic()
    label_counts = RowCounts()
    share = args.documents.max_malformed_share
    labels = read_labels(labels_path, label_counts, max_malformed_share=share)
    document_counts = RowCounts()
    source = source_of(storage, project_id, args.documents_path, args.documents, document_counts)
    model = train_project(
        ModelStore(storage, project_id),
        source,
        labels,
        TrainingOptions(
            c=args.hyperparameters.c,
            min_df=args.model_options.min_df,
            hold_out_share=args.hyperparameters.hold_out_share,
            seed=args.hyperparameters.seed,
        ),
        document_ids=args.document_ids,
        report=report,
    )
    metrics = model.trained.metrics
    return TrainModelResult(
        project_id=project_id,
        model_id=model_id_of(project_id, model.description.version),
        documents=model.trained.trained_on + model.trained.held_out,
        features=model.description.weights.features,
        classes=len(model.description.classes),
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        fits=len(model.description.classes),
        seconds=round(time.monotonic() - started, 3),
        score=_score(model, label_counts, document_counts),
    )


def score_dataset(
    dataset_id: str, hyperparameters: Hyperparameters, report: Report = report_nothing
) -> TrainModelResult:
    """Cross-validate on one of scikit-learn's data sets; no model is kept."""
    started = time.monotonic()
    stage = Stage(report, "train", hyperparameters.folds * hyperparameters.repeats, "fits")
    found = cross_validate(
        dataset_id,
        c=hyperparameters.c,
        folds=hyperparameters.folds,
        repeats=hyperparameters.repeats,
        seed=hyperparameters.seed,
        on_fit=lambda done, total: stage.reached(done),
    )
    return TrainModelResult(
        dataset_id=dataset_id,
        documents=found.documents,
        features=found.features,
        classes=found.classes,
        accuracy=found.accuracy,
        macro_f1=found.macro_f1,
        fits=found.fits,
        seconds=round(time.monotonic() - started, 3),
    )


def _score(model: ProjectModel, labels: RowCounts, documents: RowCounts) -> ProjectScore:
    trained, found = model.trained, model.found
    examples = [*labels.examples, *documents.examples][:MAX_MALFORMED_SHOWN]
    classes = trained.classifier.classes
    return ProjectScore(
        trained_on=trained.trained_on,
        held_out=trained.held_out,
        calibration_error=round(trained.calibration_error, 4),
        temperature=trained.classifier.temperature,
        unconverged=trained.unconverged,
        per_class=_per_class(classes, trained.metrics) if len(classes) <= MAX_PER_CLASS else [],
        confusion=trained.metrics.confusion.tolist() if len(classes) <= MAX_CONFUSION else None,
        confusion_png=model.confusion_plot_key,
        found=LabelledDocuments(
            read=found.read,
            unlabelled=found.unlabelled,
            duplicates=found.duplicates,
            without_document=found.without_document,
            first_without_document=found.first_without_document,
            malformed=labels.malformed + documents.malformed,
            first_malformed=[str(example) for example in examples],
        ),
    )


def _per_class(classes: tuple[str, ...], metrics: Metrics) -> list[ClassScore]:
    return [
        ClassScore(
            label=label,
            precision=round(float(metrics.precision[number]), 4),
            recall=round(float(metrics.recall[number]), 4),
            f1=round(float(metrics.f1[number]), 4),
            support=int(metrics.support[number]),
        )
        for number, label in enumerate(classes)
    ]
