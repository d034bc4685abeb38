"""Label a project's documents, in a process that can be killed."""

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
from api_shared.settings import load_settings
from api_shared.storage import InvalidKey, Storage, open_storage, project_key
from api_shared.worker.context import JobContext
from workers_ml.documents import Tally
from workers_ml.models import (
    ModelRefused,
    ModelStore,
    NoModel,
    UnknownVersion,
    model_id_of,
    parse_model_id,
)
from workers_ml.projects.predict import predict_project
from workers_ml.projects.progress import Tell, tell_nobody
from workers_ml.projects.sources import HOPELESS, source_of

SHOWN = 20
MAX_LABELS = 1000


@ml_broker.task(PREDICT_DOCUMENTS)
def predict_documents(
    args: PredictDocumentsArgs, job: JobContext = TaskiqDepends()
) -> PredictDocumentsResult:
    """The file is named by the job: a run after a crash writes the same one again."""

    def tell(stage: str, done: float, total: float | None, message: str) -> None:
        job.progress(done, total, stage=stage, message=message)

    try:
        return predict_to(job.id, args, open_storage(load_settings().storage_url), tell)
    except (*HOPELESS, NoModel, UnknownVersion, ModelRefused, InvalidKey) as error:
        raise Discard(str(error)) from error


def predict_to(
    name: str, args: PredictDocumentsArgs, storage: Storage, tell: Tell = tell_nobody
) -> PredictDocumentsResult:
    """
    Predictions go to `projects/{project_id}/predictions/{name}.{format}`.

    Raises `HOPELESS`, `NoModel`, `UnknownVersion`, `ModelRefused`; nothing is written then.
    """
    started = time.monotonic()
    model_project, version = parse_model_id(args.model_id or args.project_id)
    model = ModelStore(storage, model_project).load(version)
    tally = Tally()
    key = project_key(args.project_id, "predictions", f"{name}.{args.format}")
    predicted = predict_project(
        storage,
        key,
        model.classifier,
        source_of(storage, args.project_id, args.documents_path, args.documents, tally),
        wanted_format=args.format,
        document_ids=args.document_ids,
        tell=tell,
    )
    return PredictDocumentsResult(
        project_id=args.project_id,
        model_id=model_id_of(model_project, model.description.version),
        predictions=key,
        documents=predicted.documents,
        by_label=dict(predicted.by_label.most_common(MAX_LABELS)),
        mean_probability=round(predicted.probabilities / max(predicted.documents, 1), 4),
        unknown_documents=len(predicted.unknown),
        first_unknown=predicted.unknown[:SHOWN],
        malformed=tally.malformed,
        first_malformed=[str(row) for row in tally.examples[:SHOWN]],
        seconds=round(time.monotonic() - started, 3),
    )
