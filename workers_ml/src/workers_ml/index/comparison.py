"""A comparison of documents with the index that a run begins from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workers_ml.documents import Document
from workers_ml.features import FEATURES
from workers_ml.index.errors import BrokenIndex, NoIndex, OtherFeatures
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.format.manifest import Manifest
from workers_ml.index.reader import IndexReader


@dataclass(frozen=True, slots=True)
class BaseIndex:
    """
    The index that a run begins from.

    `expected_digest` is the manifest's digest, for the swap; None if there is no manifest. `reader`
    is None if there is no index, or none that can be used.
    """

    reader: IndexReader | None
    expected_digest: str | None
    generation: int

    @property
    def manifest(self) -> Manifest | None:
        return self.reader.manifest if self.reader else None

    @classmethod
    def read(cls, files: IndexFiles, *, is_incremental: bool) -> BaseIndex:
        """
        Raises `BrokenIndex` and `OtherFeatures` if incremental; else such an index is replaced.
        """
        generation = 0
        try:
            content, digest = files.load_manifest()
        except NoIndex:
            return cls(None, None, 0)
        try:
            generation = Manifest.decode(content).generation
            reader = IndexReader.open(files)
        except BrokenIndex:
            if is_incremental:
                raise
            return cls(None, digest, generation)
        found = reader.manifest.features
        if is_incremental and found != FEATURES:
            raise OtherFeatures(files.project_id, found, FEATURES)
        return cls(reader, reader.digest, reader.manifest.generation)


@dataclass(slots=True)
class Comparison:
    """
    The documents compared with the base: how many are added, changed and unchanged.

    `replaced` marks the rows of the base whose documents now have another content.
    """

    base: BaseIndex
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    replaced: NDArray[np.bool_] = field(init=False)
    _seen: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.base.reader.ids.live) if self.base.reader else 0
        self._seen = np.zeros(rows, np.bool_)
        self.replaced = np.zeros(rows, np.bool_)

    @property
    def documents(self) -> int:
        return self.added + self.changed + self.unchanged

    def new_or_changed(self, batch: Sequence[Document]) -> list[bool]:
        """Whether each document is new, or has another content than in the base."""
        if self.base.reader is None:
            self.added += len(batch)
            return [True] * len(batch)
        ids = self.base.reader.ids
        rows = ids.find([document.id for document in batch])
        return [
            self._is_new_or_changed(row, document, row is not None and ids.content_hash(row))
            for row, document in zip(rows, batch, strict=True)
        ]

    def missing(self) -> NDArray[np.bool_]:
        """The rows of the base whose documents were not among those compared."""
        if self.base.reader is None:
            return self._seen
        return self.base.reader.ids.live & ~self._seen

    def _is_new_or_changed(
        self, row: int | None, document: Document, known_hash: bytes | bool
    ) -> bool:
        if row is None:
            self.added += 1
            return True
        self._seen[row] = True
        if known_hash == content_hash(document.text):
            self.unchanged += 1
            return False
        self.replaced[row] = True
        self.changed += 1
        return True
