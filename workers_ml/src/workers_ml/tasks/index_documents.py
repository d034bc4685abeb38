"""The task `index_documents`: it updates the index of a project to its documents."""

from __future__ import annotations

import time
from dataclasses import asdict

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml_index import (
    INDEX_DOCUMENTS,
    IndexDocumentsArgs,
    IndexDocumentsResult,
)
from api_shared.errors import Discard
from api_shared.storage import Storage
from api_shared.worker.context import JobContext
from workers_ml.documents import (
    DocumentsUnreadable,
    Fields,
    MissingExtra,
    RowCounts,
    TooManyMalformed,
    read_documents,
    well_formed,
)
from workers_ml.index import (
    BrokenIndex,
    IndexFiles,
    NoDocuments,
    OtherFeatures,
    update_index,
)
from workers_ml.index.estimate import estimate_documents
from workers_ml.projects.progress import Report, Stage, report_nothing
from workers_ml.storage import worker_storage

MAX_MALFORMED_SHOWN = 20

PERMANENT_ERRORS = (
    BrokenIndex,
    DocumentsUnreadable,
    MissingExtra,
    NoDocuments,
    OtherFeatures,
    TooManyMalformed,
)
"""No retry can fix these."""


@ml_broker.task(INDEX_DOCUMENTS)
def index_documents(
    args: IndexDocumentsArgs,
    job: JobContext = TaskiqDepends(),
    storage: Storage = TaskiqDepends(worker_storage),
) -> IndexDocumentsResult:
    def report(stage: str, done: float, total: float | None, message: str) -> None:
        job.progress(done, total, stage=stage, message=message)

    try:
        return index_path(args, storage, report)
    except PERMANENT_ERRORS as error:
        raise Discard(str(error)) from error


def index_path(
    args: IndexDocumentsArgs,
    storage: Storage,
    report: Report = report_nothing,
) -> IndexDocumentsResult:
    """
    Update the index of the project to the documents of `args.documents_path`.

    Raises the errors of `update_index`, `read_documents` and `well_formed`; the index is then as it
    was.
    """
    started = time.monotonic()
    estimate = estimate_documents(args.documents_path)
    stages: dict[str, Stage] = {}

    def on_progress(name: str, done: int, total: int | None) -> None:
        unit = "documents" if name == "index" else "segments"
        if name not in stages:
            stages[name] = Stage(report, name, total or estimate, unit)
        stages[name].reached(done)

    counts = RowCounts()
    rows = read_documents(args.documents_path, Fields(id=args.id_field, text=args.text_field))
    result = update_index(
        IndexFiles(storage, args.project_id),
        well_formed(rows, counts, max_malformed_share=args.max_malformed_share),
        is_incremental=args.is_incremental,
        keeps_missing=args.keeps_missing,
        on_progress=on_progress,
    )
    return IndexDocumentsResult(
        project_id=args.project_id,
        malformed=counts.malformed,
        first_malformed=[str(row) for row in counts.examples[:MAX_MALFORMED_SHOWN]],
        seconds=round(time.monotonic() - started, 3),
        **asdict(result),
    )
