"""The task `similar_documents`: it finds documents like a text, or like another document."""

from __future__ import annotations

import asyncio

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml_index import (
    SIMILAR_DOCUMENTS,
    SimilarDocument,
    SimilarDocumentsArgs,
    SimilarDocumentsResult,
)
from api_shared.errors import Discard
from workers_ml.index import BrokenIndex, NoIndex, OtherFeatures, UnknownDocument
from workers_ml.index.cache import IndexCache
from workers_ml.storage import worker_indexes

PERMANENT_ERRORS = (BrokenIndex, NoIndex, OtherFeatures, UnknownDocument)

"""No retry can fix these."""


@ml_broker.task(SIMILAR_DOCUMENTS)
async def similar_documents(
    args: SimilarDocumentsArgs, indexes: IndexCache = TaskiqDepends(worker_indexes)
) -> SimilarDocumentsResult:
    try:
        return await asyncio.to_thread(find_similar, args, indexes)
    except PERMANENT_ERRORS as error:
        raise Discard(str(error)) from error


def find_similar(args: SimilarDocumentsArgs, indexes: IndexCache) -> SimilarDocumentsResult:
    """Raises `NoIndex`, `UnknownDocument`, `BrokenIndex`, `OtherFeatures`."""
    index = indexes.get(args.project_id)
    if args.document_id is not None:
        found = index.similar_to_document(args.document_id, args.k)
    else:
        found = index.similar_to_text(args.text or "", args.k)
    return SimilarDocumentsResult(
        project_id=args.project_id,
        similar=[SimilarDocument(document_id=n.document_id, score=n.score) for n in found],
        documents=index.documents,
        generation=index.generation,
    )
