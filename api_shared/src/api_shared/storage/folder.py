"""A folder as a storage, on a local disk or on a network mount of all workers."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from api_shared.storage.errors import NotStored, StorageUnavailable, StoredTooLarge, SwapRefused
from api_shared.storage.keys import check_key
from api_shared.storage.protocol import LOAD_LIMIT_BYTES, MEGABYTE, Storage, digest_of

UNFINISHED = ".unfinished"
LOCKS = ".locks"
"""A folder below the root. No name in a key begins with a dot."""

ABANDONED_S = 86_400


class FolderStorage(Storage):
    """
    One file for each key, written beside its place, flushed to the disk, then renamed.

    On a network mount `swap` needs locks that work there (NFS 4 has them).
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def save(self, key: str, data: bytes) -> None:
        with self._writing(key) as file:
            file.write(data)

    def save_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source, self._writing(key) as file:
            shutil.copyfileobj(source, file, MEGABYTE)

    def load(self, key: str, *, max_bytes: int = LOAD_LIMIT_BYTES) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                if size_bytes > max_bytes:
                    raise StoredTooLarge(key, size_bytes, max_bytes)
                return file.read(max_bytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotStored(key) from None

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise NotStored(key)
        try:
            yield path
        except FileNotFoundError:  # deleted by another process before it was opened
            if path.exists():
                raise
            raise NotStored(key) from None

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return
        _flush_folder(path.parent)
        self._remove_empty(path.parent)

    def list(self, prefix: str) -> list[str]:
        found = []
        for folder, _, files in os.walk(self._path(prefix)):
            found += [str((Path(folder) / name).relative_to(self.root)) for name in files]
        return sorted(found)

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        with self._locked(key):
            try:
                found = digest_of(self.load(key))
            except NotStored:
                found = None
            if found != expected:
                raise SwapRefused(key, expected, found)
            self.save(key, data)
        self._sweep()
        return digest_of(data)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    @contextmanager
    def _writing(self, key: str) -> Iterator[BinaryIO]:
        """A file that takes its place if the block succeeds, and is deleted otherwise."""
        path = self._path(key)
        unfinished = self.root / UNFINISHED / token_hex(8)
        try:
            self._make_folder(unfinished.parent)
            with unfinished.open("xb") as file, _removed_if_left(unfinished):
                yield file
                file.flush()
                os.fsync(file.fileno())
                self._put_in_place(unfinished, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise StorageUnavailable(f"{str(path)!r} cannot be written: {error}") from None

    def _put_in_place(self, unfinished: Path, path: Path) -> None:
        """Rename a file into its place. Another process may remove its empty folder in between."""
        for _ in range(1000):
            try:
                self._make_folder(path.parent)
                unfinished.replace(path)
            except FileNotFoundError:
                continue
            _flush_folder(path.parent)
            return
        raise StorageUnavailable(
            f"{str(path.parent)!r} was removed again and again: another program deletes it"
        )

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, each of them durable."""
        if folder.is_dir():
            return
        if folder != folder.parent:
            self._make_folder(folder.parent)
        with suppress(FileExistsError):  # `exist_ok` checks again, when it may be gone again
            folder.mkdir()
        _flush_folder(folder.parent)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.root and folder.is_relative_to(self.root):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _sweep(self) -> None:
        """Remove the partial files of killed processes."""
        for path in (self.root / UNFINISHED).iterdir():
            try:
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
            except FileNotFoundError:
                continue

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock, which ends with its process. Its file stays: all processes share it."""
        path = self.root / LOCKS / digest_of(check_key(key).encode())[:32]
        self._make_folder(path.parent)
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def _removed_if_left(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    """Make a rename durable, which needs its folder to be. A removed folder needs nothing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
