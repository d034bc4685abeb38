"""
The storage of files of tasks: a small protocol, with an implementation that STORAGE_URL names.

    storage = open_storage(load_settings().storage_url)
    storage.save("projects/news/notes.json", b"{}")

A key is a path of plain names below the storage's root. The keys of a project begin with
`projects/{project_id}/`.
"""

from api_shared.storage.errors import (
    InvalidKey,
    NotStored,
    StorageError,
    StorageUnavailable,
    StoredTooLarge,
    SwapRefused,
)
from api_shared.storage.keys import check_key, project_key
from api_shared.storage.opened import open_storage
from api_shared.storage.protocol import Storage, digest_of

__all__ = [
    "InvalidKey",
    "NotStored",
    "Storage",
    "StorageError",
    "StorageUnavailable",
    "StoredTooLarge",
    "SwapRefused",
    "check_key",
    "digest_of",
    "open_storage",
    "project_key",
]
