"""
Readers of documents: folders of text files, JSONL, CSV, TSV and Parquet, gzipped too.

    counts = RowCounts()
    for document in well_formed(read_documents("reviews.jsonl.gz"), counts): ...
"""

from workers_ml.documents.document import Document, Fields, Malformed, Row
from workers_ml.documents.errors import DocumentsUnreadable, MissingExtra, TooManyMalformed
from workers_ml.documents.read import FORMATS, read_documents
from workers_ml.documents.well_formed import RowCounts, well_formed

__all__ = [
    "FORMATS",
    "Document",
    "DocumentsUnreadable",
    "Fields",
    "Malformed",
    "MissingExtra",
    "Row",
    "RowCounts",
    "TooManyMalformed",
    "read_documents",
    "well_formed",
]
