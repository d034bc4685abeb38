"""
The similarity index of a project's documents.

    files = IndexFiles(open_storage(settings.storage_url), "news")
    update_index(files, documents, is_incremental=True)
    SimilarityIndex.open(files).similar_to_text("rates rise again", k=10)
"""

from workers_ml.index.errors import (
    BrokenIndex,
    IndexChanged,
    IndexProblem,
    NoDocuments,
    NoIndex,
    OtherFeatures,
    UnknownDocument,
)
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.similarity import Neighbour, SimilarityIndex
from workers_ml.index.update import IndexReport, update_index

__all__ = [
    "BrokenIndex",
    "IndexChanged",
    "IndexFiles",
    "IndexProblem",
    "IndexReport",
    "Neighbour",
    "NoDocuments",
    "NoIndex",
    "OtherFeatures",
    "SimilarityIndex",
    "UnknownDocument",
    "update_index",
]
