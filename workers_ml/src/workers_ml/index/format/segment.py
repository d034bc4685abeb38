"""
A segment: documents that were indexed together, by row and by feature. It is immutable.

On disk it is one safetensors file that can be mapped into memory; `SHAPES` lists its arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy.sparse import csr_matrix

from workers_ml.features import HASH_BITS, FeatureRows
from workers_ml.index.errors import BrokenIndex
from workers_ml.index.format.hashes import HASH_BYTES, id_keys_of, pack_texts, unpack_text
from workers_ml.index.format.tensors import arrays_in

SHAPES = {
    "ids": ("U8", 1),
    "id_starts": ("I64", 1),
    "id_keys": ("U64", 1),
    "hashes": ("U8", 2),
    "row_starts": ("I64", 1),
    "row_features": ("U32", 1),
    "row_counts": ("U16", 1),
    "terms": ("U32", 1),
    "term_starts": ("I64", 1),
    "postings": ("U32", 1),
    "posting_counts": ("U16", 1),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """
    `hashes` is uint8, (documents, 16). By feature: the documents (rows) that have `terms[i]` are
    `postings[term_starts[i]:term_starts[i + 1]]`, ascending, with their counts.
    """

    ids: NDArray[np.uint8]
    id_starts: NDArray[np.int64]
    id_keys: NDArray[np.uint64]
    hashes: NDArray[np.uint8]
    rows: FeatureRows
    terms: NDArray[np.uint32]
    term_starts: NDArray[np.int64]
    postings: NDArray[np.uint32]
    posting_counts: NDArray[np.uint16]

    @classmethod
    def build(cls, ids: Sequence[str], hashes: Sequence[bytes], rows: FeatureRows) -> Segment:
        """Turn rows into postings."""
        width = int(rows.features.max()) + 1 if len(rows.features) else 1
        by_row = csr_matrix((rows.counts, rows.features, rows.starts), shape=(len(rows), width))
        by_feature = by_row.tocsc()
        terms = np.flatnonzero(np.diff(by_feature.indptr))
        packed, id_starts = pack_texts(ids)
        return cls(
            ids=packed,
            id_starts=id_starts,
            id_keys=id_keys_of(ids),
            hashes=np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES),
            rows=rows,
            terms=terms.astype(np.uint32),
            term_starts=by_feature.indptr[np.append(terms, width)].astype(np.int64),
            postings=by_feature.indices.astype(np.uint32),
            posting_counts=by_feature.data.astype(np.uint16),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def document_id(self, row: int) -> str:
        return unpack_text(self.ids, self.id_starts, row)

    def encode(self) -> bytes:
        """As a safetensors file."""
        rows = self.rows
        arrays: dict[str, NDArray[Any]] = {
            "row_starts": rows.starts,
            "row_features": rows.features,
            "row_counts": rows.counts,
        }
        arrays |= {name: getattr(self, name) for name in SHAPES if name not in arrays}
        return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))

    @classmethod
    def decode(cls, file: str, content: memoryview) -> Segment:
        """Views on `content`. Raises `BrokenIndex` when the arrays do not fit together."""
        arrays = arrays_in(file, content, SHAPES)
        rows = FeatureRows(
            *(arrays.pop(f"row_{name}") for name in ("starts", "features", "counts"))
        )
        segment = cls(rows=rows, **arrays)
        segment._check(file)
        return segment

    def _check(self, file: str) -> None:
        documents, postings = len(self.id_keys), len(self.postings)
        ordered = {
            "id_starts": (self.id_starts, documents, len(self.ids)),
            "row_starts": (self.rows.starts, documents, postings),
            "term_starts": (self.term_starts, len(self.terms), postings),
        }
        for name, (starts, count, end) in ordered.items():
            if len(starts) != count + 1 or starts[0] != 0 or starts[-1] != end:
                raise BrokenIndex(file, f"{name} does not begin at 0 and end at {end}")
            if (np.diff(starts) < 0).any():
                raise BrokenIndex(file, f"{name} does not ascend")
        checks = {
            "hashes is not 16 bytes a document": self.hashes.shape == (documents, HASH_BYTES),
            "rows and postings differ in size": len(self.rows.features)
            == len(self.rows.counts)
            == len(self.posting_counts)
            == postings,
            "terms does not ascend": bool((self.terms[1:] > self.terms[:-1]).all()),
            "a feature is over 22 bits": not postings
            or max(int(self.rows.features.max()), int(self.terms[-1])) < 1 << HASH_BITS,
            "a posting names a document that does not exist": not postings
            or int(self.postings.max()) < documents,
            "a count is zero": bool(self.posting_counts.all() and self.rows.counts.all()),
        }
        for problem, holds in checks.items():
            if not holds:
                raise BrokenIndex(file, problem)


@dataclass(frozen=True, slots=True)
class LiveSegment:
    """A segment of an index, and which of its rows are not deleted."""

    segment: Segment
    live: NDArray[np.bool_]
