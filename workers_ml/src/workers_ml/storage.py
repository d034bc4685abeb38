"""The storage of this worker process, and the caches of what it loads from there."""

from __future__ import annotations

from functools import cache

from api_shared.broker import ml_broker
from api_shared.storage import Storage, open_storage
from workers_ml.index.cache import IndexCache
from workers_ml.models import ModelCache


def worker_storage() -> Storage:
    """
    The storage that STORAGE_URL names, by the settings that the worker has read at its start.

    A synchronous task is given it with its arguments: the process of its own in which it runs reads
    no settings.
    """
    return _storage(_url())


def worker_models() -> ModelCache:
    """The models that this process has loaded."""
    return _models(_url())


def worker_indexes() -> IndexCache:
    """The indexes that this process has opened."""
    return _indexes(_url())


def _url() -> str:
    return ml_broker.runtime.settings.storage_url


@cache
def _storage(url: str) -> Storage:
    return open_storage(url)


@cache
def _models(url: str) -> ModelCache:
    return ModelCache(_storage(url))


@cache
def _indexes(url: str) -> IndexCache:
    return IndexCache(_storage(url))
