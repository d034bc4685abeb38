"""
Documents as users have them: folders of text files, JSONL, CSV, TSV, Parquet, gzipped too.

    tally = Tally()
    for document in well_formed(read_documents("reviews.jsonl.gz"), tally): ...
"""

from workers_ml.documents.document import Document, Fields, Malformed, Row
from workers_ml.documents.errors import DocumentsUnreadable, MissingExtra, TooManyMalformed
from workers_ml.documents.read import FORMATS, read_documents
from workers_ml.documents.well_formed import Tally, well_formed

__all__ = [
    "FORMATS",
    "Document",
    "DocumentsUnreadable",
    "Fields",
    "Malformed",
    "MissingExtra",
    "Row",
    "Tally",
    "TooManyMalformed",
    "read_documents",
    "well_formed",
]
