"""The files of one project's index in the storage: `projects/{project_id}/index/…`."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from api_shared.storage import (
    NotStored,
    Storage,
    StoredTooLarge,
    SwapRefused,
    digest_of,
    project_key,
)
from workers_ml.index.errors import BrokenIndex, IndexChanged, NoIndex
from workers_ml.index.format.manifest import (
    FILE_NAME,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    IndexFile,
    Manifest,
    SegmentEntry,
)
from workers_ml.index.format.segment import LiveSegment, Segment
from workers_ml.index.format.tensors import arrays_in


class IndexFiles:
    """
    The files of one index. Reads check size, hash and shapes; writes are atomic, as the storage's.

    A job's own process maps the files into memory. A process that must not die reads them whole
    (`is_mapped` False): touching a mapping whose file was truncated, or deleted by another client
    of a network mount, ends the process (SIGBUS).
    """

    def __init__(self, storage: Storage, project_id: str, *, is_mapped: bool = True) -> None:
        self.project_id = project_id
        self._is_mapped = is_mapped
        self._storage = storage
        self._prefix = project_key(project_id, "index")

    # The manifest.

    def load_manifest(self) -> tuple[bytes, str]:
        """Its bytes, not yet decoded, and their digest. Raises `NoIndex`."""
        try:
            content = self._storage.load(self._key(MANIFEST), max_bytes=MAX_MANIFEST_BYTES)
        except NotStored:
            raise NoIndex(self.project_id) from None
        except StoredTooLarge as error:
            raise BrokenIndex(MANIFEST, str(error)) from None
        return content, digest_of(content)

    def swap_manifest(self, manifest: Manifest, *, expected: str | None) -> None:
        """Replace the manifest whose digest is `expected`. Raises `IndexChanged`."""
        try:
            self._storage.swap(self._key(MANIFEST), manifest.encode(), expected=expected)
        except SwapRefused:
            raise IndexChanged(self.project_id, manifest.generation - 1) from None

    # Segments and their deleted rows.

    def save_segment(self, name: str, segment: Segment) -> IndexFile:
        return self._save(name, segment.encode())

    def open_segment(self, entry: SegmentEntry) -> LiveSegment:
        """A segment and which of its rows are live. Raises `BrokenIndex`."""
        segment = Segment.decode(entry.file.name, self._content(entry.file))
        live = np.ones(len(segment), np.bool_)
        if entry.dead is not None:
            live[self._open_dead_rows(entry.dead, len(segment))] = False
        dead = len(segment) - int(live.sum())
        found = (len(segment), len(segment.postings), dead)
        if found != (entry.documents, entry.postings, entry.dead_documents):
            problem = f"documents, postings and dead rows are {found}, not as in the manifest"
            raise BrokenIndex(entry.file.name, problem)
        return LiveSegment(segment, live)

    def save_dead_rows(self, name: str, rows: NDArray[np.intp]) -> IndexFile:
        return self._save(name, bytes(save({"rows": rows.astype(np.uint32)})))

    def _open_dead_rows(self, file: IndexFile, documents: int) -> NDArray[Any]:
        """The numbers of the deleted rows, ascending; each is below `documents`."""
        rows = arrays_in(file.name, self._content(file), {"rows": ("U32", 1)})["rows"]
        if not (rows[1:] > rows[:-1]).all() or (len(rows) and int(rows[-1]) >= documents):
            raise BrokenIndex(file.name, "rows does not ascend, or names a row that does not exist")
        return rows

    def list(self) -> frozenset[str]:
        """The names of all stored segments and lists of deleted rows, in the manifest or not."""
        names = (key.removeprefix(f"{self._prefix}/") for key in self._storage.list(self._prefix))
        return frozenset(name for name in names if re.fullmatch(FILE_NAME, name))

    def delete(self, name: str) -> None:
        self._storage.delete(self._key(name))

    def _save(self, name: str, content: bytes) -> IndexFile:
        self._storage.save(self._key(name), content)
        return IndexFile.of(name, content)

    def _content(self, file: IndexFile) -> memoryview:
        """Raises `BrokenIndex`, and `NotStored` where a later index has replaced the file."""
        with self._storage.local(self._key(file.name)) as path:
            content = _map(path) if self._is_mapped else memoryview(path.read_bytes())
        file.check(content)
        return content

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def _map(path: Path) -> memoryview:
    """The mapping lives as long as a view on it, even if the file is deleted."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
