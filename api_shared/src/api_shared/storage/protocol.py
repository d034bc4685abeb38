"""The protocol of a storage: all that tasks need, so that anybody can write another one."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

MEGABYTE = 1024 * 1024
LOAD_LIMIT_BYTES = 64 * MEGABYTE


class Storage(Protocol):
    """
    Bytes under keys (see `check_key`; all methods raise `InvalidKey`).

    Writes are atomic: a read returns what one `save` wrote, never a part, even if a process was
    killed meanwhile. When a write returns, it is durable. The methods are synchronous, for the
    processes of jobs or for threads. Many processes can share a storage, each with an instance of
    its own.
    """

    def save(self, key: str, data: bytes) -> None:
        """Store `data`, replacing what was there."""

    def load(self, key: str, *, max_bytes: int = LOAD_LIMIT_BYTES) -> bytes:
        """Raises `NotStored`, and `StoredTooLarge` before more than `max_bytes` are read."""

    def save_file(self, key: str, path: Path) -> None:
        """Store a copy of the file at `path`, for data that is too large for memory."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """
        The data as a file, to read or map within the block. Never write to it.

        Raises `NotStored`.
        """

    def delete(self, key: str) -> None:
        """Delete a key. Nothing happens if nothing is stored there."""

    def list(self, prefix: str) -> list[str]:
        """All keys below `prefix` (a key: `projects/news` lists `projects/news/…`), sorted."""

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """
        Replace a small manifest if it is still the one that the caller read. Returns the digest of
        `data`.

        `expected` is `digest_of` what `load` returned, None if it raised `NotStored`. Of several
        concurrent swaps one succeeds; the others raise `SwapRefused` and change nothing.
        """


def digest_of(data: bytes) -> str:
    """The SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()
