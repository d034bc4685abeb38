"""The index that a run begins from, and what the documents are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workers_ml.documents import Document
from workers_ml.features import FEATURES
from workers_ml.index.errors import BrokenIndex, NoIndex, OtherFeatures
from workers_ml.index.files import IndexFiles
from workers_ml.index.hashes import content_hash
from workers_ml.index.manifest import Manifest
from workers_ml.index.reader import OpenedIndex


@dataclass(frozen=True, slots=True)
class Base:
    """
    `expected` is the digest of the manifest, for the swap; None: there is none. `opened` None:
    there is no index, or one that is of no use.
    """

    opened: OpenedIndex | None
    expected: str | None
    generation: int

    @property
    def manifest(self) -> Manifest | None:
        return self.opened.manifest if self.opened else None

    @classmethod
    def read(cls, files: IndexFiles, *, is_incremental: bool) -> Base:
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
            opened = OpenedIndex.open(files)
        except BrokenIndex:
            if is_incremental:
                raise
            return cls(None, digest, generation)
        found = opened.manifest.features
        if is_incremental and found != FEATURES:
            raise OtherFeatures(files.project_id, found, FEATURES)
        return cls(opened, opened.digest, opened.manifest.generation)


@dataclass(slots=True)
class Comparison:
    """
    Documents against the base: how many are new, changed or as they were.

    `replaced` marks the rows of the base whose documents came with another content.
    """

    base: Base
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    replaced: NDArray[np.bool_] = field(init=False)
    _seen: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.base.opened.directory.live) if self.base.opened else 0
        self._seen = np.zeros(rows, np.bool_)
        self.replaced = np.zeros(rows, np.bool_)

    @property
    def documents(self) -> int:
        return self.added + self.changed + self.unchanged

    def new_or_changed(self, batch: Sequence[Document]) -> list[bool]:
        """Whether each has another content than in the base."""
        if self.base.opened is None:
            self.added += len(batch)
            return [True] * len(batch)
        directory = self.base.opened.directory
        rows = directory.find([document.id for document in batch])
        return [
            self._is_new_or_changed(row, document, row is not None and directory.content_hash(row))
            for row, document in zip(rows, batch, strict=True)
        ]

    def missing(self) -> NDArray[np.bool_]:
        """Rows whose documents did not come."""
        if self.base.opened is None:
            return self._seen
        return self.base.opened.directory.live & ~self._seen

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
