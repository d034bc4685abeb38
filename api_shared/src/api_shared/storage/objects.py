"""S3, Google Cloud Storage and Azure as a storage, through obstore."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api_shared.storage.errors import NotStored, StorageUnavailable, StoredTooLarge, SwapRefused
from api_shared.storage.keys import check_key
from api_shared.storage.protocol import LOAD_LIMIT_BYTES, MEGABYTE, Storage, digest_of

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore


def open_objects(url: str) -> Storage:
    """
    The bucket of `url`, with keys below the URL's path. Credentials are read as by the provider's
    own tools (AWS_…, GOOGLE_…, AZURE_…). Raises `StorageUnavailable`.
    """
    try:
        from obstore import exceptions
        from obstore.store import from_url
    except ImportError:
        raise StorageUnavailable(
            f"STORAGE_URL={urlsplit(url).scheme}://… needs a package that is not installed: "
            f"install api-shared[objects]"
        ) from None
    try:
        return ObjectStorage(from_url(url))
    except (exceptions.BaseError, ValueError) as error:
        raise StorageUnavailable(f"STORAGE_URL={url.partition('?')[0]!r}: {error}") from None


class ObjectStorage(Storage):
    """One object for each key. `swap` is the store's own conditional put, so no lock is needed."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def save(self, key: str, data: bytes) -> None:
        self._store.put(check_key(key), data)

    def save_file(self, key: str, path: Path) -> None:
        """Store a file in parts. The object appears when the last part is stored."""
        self._store.put(check_key(key), path)

    def load(self, key: str, *, max_bytes: int = LOAD_LIMIT_BYTES) -> bytes:
        return self._load(key, max_bytes)[0]

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A copy in the folder for temporary files, which is deleted after the block."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "object"
            try:
                with path.open("wb") as file:
                    for chunk in self._store.get(check_key(key)).stream(min_chunk_size=MEGABYTE):
                        file.write(chunk)
            except FileNotFoundError:
                raise NotStored(key) from None
            yield path

    def delete(self, key: str) -> None:
        try:
            self._store.delete(check_key(key))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> list[str]:
        found = self._store.list(f"{check_key(prefix)}/")
        return sorted(meta["path"] for batch in found for meta in batch)

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        from obstore import exceptions

        version: UpdateVersion | None = None
        try:
            there, version = self._load(key, LOAD_LIMIT_BYTES)
            found = digest_of(there)
        except NotStored:
            found = None
        if found != expected:
            raise SwapRefused(key, expected, found)
        try:
            self._store.put(check_key(key), data, mode="create" if version is None else version)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise SwapRefused(key, expected, "another one") from None
        return digest_of(data)

    def _load(self, key: str, max_bytes: int) -> tuple[bytes, UpdateVersion]:
        try:
            answer = self._store.get(check_key(key))
        except FileNotFoundError:
            raise NotStored(key) from None
        if answer.meta["size"] > max_bytes:
            raise StoredTooLarge(key, answer.meta["size"], max_bytes)
        version: UpdateVersion = {}
        for name in ("e_tag", "version"):
            if answer.meta[name] is not None:
                version[name] = answer.meta[name]
        return bytes(answer.bytes()), version
