"""A thread-safe cache of models."""

from __future__ import annotations

import threading
from collections import OrderedDict

from api_shared.storage import Storage
from workers_ml.models.model_id import parse_model_id
from workers_ml.models.store import ModelStore, StoredModel

MAX_BYTES = 1 << 30


class ModelCache:
    """
    The most recently used models, up to `max_bytes` in total (one is kept whatever its size).

    Each call reads which version is in force (one small file), so that a model that was retrained
    or deleted is never answered from memory.
    """

    def __init__(self, storage: Storage, max_bytes: int = MAX_BYTES) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._models: OrderedDict[tuple[str, str], StoredModel] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, str], threading.Lock] = {}

    def get(self, model_id: str) -> tuple[str, StoredModel]:
        """Project id and model. Raises `NoModel`, `UnknownVersion`, `ModelRefused`."""
        project_id, version = parse_model_id(model_id)
        store = ModelStore(self._storage, project_id)
        key = (project_id, store.version_of(version))
        with self._lock:
            if key in self._models:
                self._models.move_to_end(key)
                return project_id, self._models[key]
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:  # of many that need it, one loads it
            with self._lock:
                found = self._models.get(key)
            model = found or store.load(key[1])
            with self._lock:
                self._loading.pop(key, None)
                self._models[key] = model
                self._shrink()
        return project_id, model

    def _shrink(self) -> None:
        while len(self._models) > 1 and sum(map(_size_bytes, self._models.values())) > (
            self._max_bytes
        ):
            self._models.popitem(last=False)


def _size_bytes(model: StoredModel) -> int:
    weighting = model.classifier.weighting
    return model.classifier.weights.nbytes + weighting.features.nbytes + weighting.idf.nbytes
