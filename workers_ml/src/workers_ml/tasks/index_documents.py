"""Put a project's documents into its index, in a process that can be killed."""

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
from api_shared.settings import load_settings
from api_shared.storage import Storage, open_storage
from api_shared.worker.context import JobContext
from workers_ml.documents import (
    DocumentsUnreadable,
    Fields,
    MissingExtra,
    Tally,
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
from workers_ml.index.estimate import expected_documents
from workers_ml.projects.progress import Stage, Tell, tell_nobody

SHOWN_MALFORMED = 20

HOPELESS = (
    BrokenIndex,
    DocumentsUnreadable,
    MissingExtra,
    NoDocuments,
    OtherFeatures,
    TooManyMalformed,
)
"""No retry mends these."""


@ml_broker.task(INDEX_DOCUMENTS)
def index_documents(
    args: IndexDocumentsArgs, job: JobContext = TaskiqDepends()
) -> IndexDocumentsResult:
    def tell(stage: str, done: float, total: float | None, message: str) -> None:
        job.progress(done, total, stage=stage, message=message)

    try:
        return index_path(args, open_storage(load_settings().storage_url), tell)
    except HOPELESS as error:
        raise Discard(str(error)) from error


def index_path(
    args: IndexDocumentsArgs,
    storage: Storage,
    tell: Tell = tell_nobody,
) -> IndexDocumentsResult:
    """
    Read the documents of `args.documents_path` into the index of the project.

    Raises what `update_index`, `read_documents` and `well_formed` raise; the index is then as it
    was.
    """
    started = time.monotonic()
    expected = expected_documents(args.documents_path)
    stages: dict[str, Stage] = {}

    def report(name: str, done: int, total: int | None) -> None:
        unit = "documents" if name == "index" else "segments"
        if name not in stages:
            stages[name] = Stage(tell, name, total or expected, unit)
        stages[name].at(done)

    tally = Tally()
    rows = read_documents(args.documents_path, Fields(id=args.id_field, text=args.text_field))
    result = update_index(
        IndexFiles(storage, args.project_id),
        well_formed(rows, tally, max_malformed_share=args.max_malformed_share),
        is_incremental=args.is_incremental,
        keeps_missing=args.keeps_missing,
        on_progress=report,
    )
    return IndexDocumentsResult(
        project_id=args.project_id,
        malformed=tally.malformed,
        first_malformed=[str(row) for row in tally.examples[:SHOWN_MALFORMED]],
        seconds=round(time.monotonic() - started, 3),
        **asdict(result),
    )
