"""The contracts of the ML worker's index: indexing a project's documents, and searching them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from api_shared.client.contract import Contract
from api_shared.contracts.general import Arguments

ProjectId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.=@+-]{0,127}$")]
"""The name of a folder: letters, digits and `_.=@+-`, without a dot at the beginning."""


class IndexDocumentsArgs(Arguments):
    """
    `documents_path` is a file or folder that the worker can read: text files, JSONL, CSV, TSV or
    Parquet, gzipped too; `id_field` and `text_field` are its keys or columns.

    Afterwards the index holds exactly these documents. With `is_incremental` only those are
    computed that are new or have another content than in the index; with `keeps_missing` as well,
    those that are in the index and not in the path stay. A job whose malformed rows are a greater
    share of all than `max_malformed_share` fails, and the index stays as it was.
    """

    project_id: ProjectId
    documents_path: str = Field(min_length=1, max_length=4096)
    is_incremental: bool = False
    keeps_missing: bool = False
    id_field: str = Field("id", min_length=1, max_length=200)
    text_field: str = Field("text", min_length=1, max_length=200)
    max_malformed_share: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _check_missing(self) -> IndexDocumentsArgs:
        if self.keeps_missing and not self.is_incremental:
            raise ValueError(
                "keeps_missing needs is_incremental: without it the index is written anew"
            )
        return self


class IndexDocumentsResult(BaseModel):
    """
    `added`, `changed`, `unchanged` and `deleted` compare with the index before; `written` is how
    many documents had to be computed. `documents`, `segments` and `size_bytes` are the index now,
    whose `generation` grows with each change. `first_malformed` names their lines.
    """

    project_id: str
    added: int
    changed: int
    unchanged: int
    deleted: int
    written: int
    malformed: int
    first_malformed: list[str]
    documents: int
    segments: int
    size_bytes: int
    generation: int
    seconds: float


class SimilarDocumentsArgs(Arguments):
    """A search for documents like `text`, or like the indexed document `document_id`."""

    project_id: ProjectId
    text: str | None = Field(None, min_length=1, max_length=1_000_000)
    document_id: str | None = Field(None, min_length=1, max_length=512)
    k: int = Field(10, ge=1, le=1000)

    @model_validator(mode="after")
    def _check_query(self) -> SimilarDocumentsArgs:
        if (self.text is None) == (self.document_id is None):
            raise ValueError("exactly one of text and document_id must be given")
        return self


class SimilarDocument(BaseModel):
    """`score` is BM25: over 0, and comparable within one answer only."""

    document_id: str
    score: float


class SimilarDocumentsResult(BaseModel):
    """
    The most similar first, of equal ones the lesser id. Fewer than k if no more share a word.

    `generation` is that of the index that answered, `documents` how many it holds.
    """

    project_id: str
    similar: list[SimilarDocument]
    documents: int
    generation: int


INDEX_DOCUMENTS = Contract(
    "index_documents",
    IndexDocumentsArgs,
    IndexDocumentsResult,
    broker="ml",
    queue="indexing",
    soft_limit_s=3 * 3600,
    hard_limit_s=4 * 3600,
    memory_limit_mb=8192,
    backoff_s=10,
)
SIMILAR_DOCUMENTS = Contract(
    "similar_documents",
    SimilarDocumentsArgs,
    SimilarDocumentsResult,
    broker="ml",
    soft_limit_s=30,
    hard_limit_s=60,
    backoff_s=1,
)

INDEX_CONTRACTS = (INDEX_DOCUMENTS, SIMILAR_DOCUMENTS)
