"""Errors of a storage."""

from __future__ import annotations

from api_shared.errors import ApiWorkersError


class StorageError(ApiWorkersError):
    """The base of all errors that a storage raises on purpose."""


class InvalidKey(StorageError):
    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"storage key {key[:200]!r}: {problem}")


class NotStored(StorageError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"nothing is stored under {key!r}")


class StoredTooLarge(StorageError):
    def __init__(self, key: str, size_bytes: int, limit_bytes: int) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"{key!r} is {size_bytes:,} bytes, over the limit of {limit_bytes:,}: "
            f"it was not written by this platform, or is damaged"
        )


class SwapRefused(StorageError):
    """Another job replaced the manifest after it was read; nothing was written."""

    def __init__(self, key: str, expected: str | None, found: str | None) -> None:
        self.key = key
        self.expected = expected
        self.found = found
        super().__init__(
            f"{key!r} has changed since it was read (expected {expected or 'nothing'}, "
            f"found {found or 'nothing'}): read it again and repeat the change"
        )


class StorageUnavailable(StorageError):
    """The storage cannot be opened or does not answer. The message names the way out."""
