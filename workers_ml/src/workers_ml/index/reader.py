"""The index reader: one state of an index, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from api_shared.storage import NotStored
from workers_ml.index.errors import BrokenIndex
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.format.id_lookup import IdLookup
from workers_ml.index.format.manifest import Manifest
from workers_ml.index.format.segment import LiveSegment

OPEN_TRIES = 5


@dataclass(frozen=True, slots=True)
class IndexReader:
    """
    The segments that one manifest names. `digest` is the manifest's digest.

    It stays readable while later jobs replace the index and delete its files.
    """

    manifest: Manifest
    digest: str
    segments: tuple[LiveSegment, ...]
    ids: IdLookup

    @classmethod
    def open(cls, files: IndexFiles) -> IndexReader:
        """
        The index as it is now. Raises `NoIndex`, `BrokenIndex`.

        A job that replaces the index at this moment deletes the files of the old one: then the new
        one is opened.
        """
        missing = ""
        for _ in range(OPEN_TRIES):
            content, digest = files.load_manifest()
            manifest = Manifest.decode(content)
            try:
                segments = tuple(files.open_segment(entry) for entry in manifest.segments)
                return cls(manifest, digest, segments, IdLookup(segments))
            except NotStored as error:
                missing = error.key.rpartition("/")[2]
                if files.load_manifest()[1] == digest:
                    break
        raise BrokenIndex(missing, "the manifest names it, but the file does not exist")

    def contents(self) -> dict[str, bytes]:
        """The content hash of each document, by id."""
        rows = np.flatnonzero(self.ids.live).tolist()
        return {self.ids.document_id(row): self.ids.content_hash(row) for row in rows}
