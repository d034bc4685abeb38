"""What a storage can do: all that the tasks ask of one, so that anybody can write another."""

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

    Whole or not at all: who reads a key finds what one `save` wrote, never a part, whatever was
    killed meanwhile; when a write returns it is durable. Synchronous: called from the processes of
    jobs, or in a thread. Safe to use from many processes; an instance belongs to one process.
    """

    def save(self, key: str, data: bytes) -> None:
        """Store `data`, in place of what was there."""

    def load(self, key: str, *, max_bytes: int = LOAD_LIMIT_BYTES) -> bytes:
        """Raises `NotStored`; `StoredTooLarge` before it has read more than `max_bytes`."""

    def save_file(self, key: str, path: Path) -> None:
        """Store a copy of the file at `path`: for what is too big for memory."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """
        What is stored, as a file to read or map while the block lasts; never write to it.

        Raises `NotStored`.
        """

    def delete(self, key: str) -> None:
        """Nothing happens where nothing is stored."""

    def list(self, prefix: str) -> list[str]:
        """All keys below `prefix` (a key: `projects/news` lists `projects/news/…`), sorted."""

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """
        Replace a small manifest if it still is what the caller has read; the digest of `data`.

        `expected` is `digest_of` what `load` gave, None where it raised `NotStored`. Of several
        that swap at a time, one wins; the others get `SwapRefused`, and nothing has changed.
        """


def digest_of(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
