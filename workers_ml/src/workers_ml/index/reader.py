"""An index that is open: its manifest read, its segments there and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from api_shared.storage import NotStored
from workers_ml.index.errors import BrokenIndex
from workers_ml.index.files import IndexFiles
from workers_ml.index.id_lookup import Directory
from workers_ml.index.manifest import Manifest
from workers_ml.index.segment import Part

OPEN_TRIES = 5


@dataclass(frozen=True, slots=True)
class OpenedIndex:
    """
    What one manifest names. `digest` is the manifest's own.

    It stays whole and readable while later jobs replace it and delete its files.
    """

    manifest: Manifest
    digest: str
    parts: tuple[Part, ...]
    directory: Directory

    @classmethod
    def open(cls, files: IndexFiles) -> OpenedIndex:
        """
        The index as it is now. Raises `NoIndex`, `BrokenIndex`.

        A job that replaces the index in this moment deletes the files of the old one: then the
        new one is opened.
        """
        missing = ""
        for _ in range(OPEN_TRIES):
            content, digest = files.load_manifest()
            manifest = Manifest.decode(content)
            try:
                parts = tuple(files.open_part(entry) for entry in manifest.segments)
                return cls(manifest, digest, parts, Directory(parts))
            except NotStored as error:
                missing = error.key.rpartition("/")[2]
                if files.load_manifest()[1] == digest:
                    break
        raise BrokenIndex(missing, "the manifest names it, but it is not there")

    def contents(self) -> dict[str, bytes]:
        """Each document's id and content hash."""
        rows = np.flatnonzero(self.directory.live).tolist()
        return {self.directory.document_id(row): self.directory.content_hash(row) for row in rows}
