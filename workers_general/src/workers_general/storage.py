"""The storage of this worker process."""

from __future__ import annotations

from functools import cache

from api_shared.broker import broker
from api_shared.storage import Storage, open_storage


def worker_storage() -> Storage:
    """The storage that STORAGE_URL names, by the settings that the worker has read at its start."""
    return storage_at(broker.runtime.settings.storage_url)


@cache
def storage_at(url: str) -> Storage:
    """Opened once in each process. Raises `StorageUnavailable`."""
    return open_storage(url)
