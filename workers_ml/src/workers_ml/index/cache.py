"""A cache of opened indexes."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict

from api_shared.storage import Storage
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.similarity import SimilarityIndex

MAX_BYTES = 2 * 1024**3


class IndexCache:
    """
    The most recently used indexes, up to `max_bytes` in total (one is kept whatever its size).

    Each query reads the project's manifest, which is small: an index that a job has replaced is
    opened again. Blocking and thread-safe; one thread opens an index while the others wait.
    """

    def __init__(self, storage: Storage, max_bytes: int = MAX_BYTES) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._opened: OrderedDict[str, SimilarityIndex] = OrderedDict()

    def get(self, project_id: str) -> SimilarityIndex:
        """The project's index as it is now. Raises `NoIndex`, `BrokenIndex`, `OtherFeatures`."""
        files = IndexFiles(self._storage, project_id, is_mapped=False)
        _, digest = files.load_manifest()
        if found := self._find(project_id, digest):
            return found
        with self._lock:
            opening = self._opening[project_id]
        with opening:
            if found := self._find(project_id, digest):
                return found
            opened = SimilarityIndex.open(files)
            self._keep(project_id, opened)
            return opened

    def _find(self, project_id: str, digest: str) -> SimilarityIndex | None:
        with self._lock:
            found = self._opened.get(project_id)
            if found is None or found.digest != digest:
                return None
            self._opened.move_to_end(project_id)
            return found

    def _keep(self, project_id: str, index: SimilarityIndex) -> None:
        with self._lock:
            self._opened[project_id] = index
            self._opened.move_to_end(project_id)
            size = sum(each.size_bytes for each in self._opened.values())
            while size > self._max_bytes and len(self._opened) > 1:
                _, dropped = self._opened.popitem(last=False)
                size -= dropped.size_bytes
            for gone in self._opening.keys() - self._opened.keys():
                if not self._opening[gone].locked():
                    del self._opening[gone]
