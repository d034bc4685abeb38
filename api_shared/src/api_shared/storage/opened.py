"""The storage that a URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from api_shared.storage.errors import StorageUnavailable
from api_shared.storage.folder import FolderStorage
from api_shared.storage.protocol import Storage

OBJECT_STORES = ("s3", "gs", "az", "memory")


def open_storage(url: str) -> Storage:
    """
    `file:./storage` (from the worker's working folder), `file:///srv/storage`; with the extra
    `api-shared[objects]` also `s3://bucket/prefix`, `gs://…`, `az://…`.

    Raises `StorageUnavailable`.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return FolderStorage(Path(unquote(parts.path)))
    if parts.scheme in OBJECT_STORES:
        from api_shared.storage.objects import open_objects

        return open_objects(url)
    raise StorageUnavailable(
        f"STORAGE_URL={parts.scheme or url[:80]!r}…: must be file:FOLDER, s3://BUCKET/PREFIX, "
        f"gs://BUCKET/PREFIX, or az://CONTAINER/PREFIX"
    )
