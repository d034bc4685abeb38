"""The task `predict_documents`: it writes a file with a label for each document of a project."""

from __future__ import annotations

import time

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml import (
    PREDICT_DOCUMENTS,
    PredictDocumentsArgs,
    PredictDocumentsResult,
)
from api_shared.errors import Discard
from api_shared.storage import InvalidKey, Storage, project_key
from api_shared.worker.context import JobContext
from workers_ml.documents import RowCounts
from workers_ml.models import (
    ModelRefused,
    ModelStore,
    NoModel,
    UnknownVersion,
    model_id_of,
    parse_model_id,
)
from workers_ml.projects.predict import predict_project
from workers_ml.projects.progress import Report, report_nothing
from workers_ml.projects.sources import PERMANENT_ERRORS, source_of
from workers_ml.storage import worker_storage

MAX_SHOWN = 20
MAX_LABELS = 1000


@ml_broker.task(PREDICT_DOCUMENTS)
def predict_documents(
    args: PredictDocumentsArgs,
    job: JobContext = TaskiqDepends(),
    storage: Storage = TaskiqDepends(worker_storage),
) -> PredictDocumentsResult:
    """The file is named after the job: a run after a crash writes the same file again."""

    def report(stage: str, done: float, total: float | None, message: str) -> None:
        job.progress(done, total, stage=stage, message=message)

    try:
        return predict_to(job.id, args, storage, report)
    except (*PERMANENT_ERRORS, NoModel, UnknownVersion, ModelRefused, InvalidKey) as error:
        raise Discard(str(error)) from error


def predict_to(
    name: str, args: PredictDocumentsArgs, storage: Storage, report: Report = report_nothing
) -> PredictDocumentsResult:
    """
    Write the predictions to `projects/{project_id}/predictions/{name}.{format}`.

    Raises `PERMANENT_ERRORS`, `NoModel`, `UnknownVersion`, `ModelRefused`; nothing is written then.
    """
    started = time.monotonic()
    model_project, version = parse_model_id(args.model_id or args.project_id)
    model = ModelStore(storage, model_project).load(version)
    counts = RowCounts()
    key = project_key(args.project_id, "predictions", f"{name}.{args.format}")
    predicted = predict_project(
        storage,
        key,
        model.classifier,
        source_of(storage, args.project_id, args.documents_path, args.documents, counts),
        file_format=args.format,
        document_ids=args.document_ids,
        report=report,
    )
    return PredictDocumentsResult(
        project_id=args.project_id,
        model_id=model_id_of(model_project, model.description.version),
        predictions=key,
        documents=predicted.documents,
        by_label=dict(predicted.by_label.most_common(MAX_LABELS)),
        mean_probability=round(predicted.probabilities / max(predicted.documents, 1), 4),
        unknown_documents=len(predicted.unknown),
        first_unknown=predicted.unknown[:MAX_SHOWN],
        malformed=counts.malformed,
        first_malformed=[str(row) for row in counts.examples[:MAX_SHOWN]],
        seconds=round(time.monotonic() - started, 3),
    )
