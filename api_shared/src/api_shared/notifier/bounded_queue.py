"""A bounded queue of items to be sent or read: in order, of some items only the latest."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """
    A queue with two bounds: a number of items and the sum of their sizes.

    An item with a key replaces the waiting item with the same key, at the end of the queue. So a
    progress never overtakes a change of status that was published before it.
    """

    def __init__(self, limit: int, *, limit_bytes: int | None = None) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._items: OrderedDict[str | int, tuple[T, int]] = OrderedDict()
        self._serial = 0
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, *, key: str | None = None, size_bytes: int = 0) -> int:
        """Add an item. Returns how many of the oldest items were dropped to make room."""
        self._serial += 1
        if key is not None and key in self._items:
            self._size_bytes -= self._items.pop(key)[1]
        self._items[self._serial if key is None else key] = (item, size_bytes)
        self._size_bytes += size_bytes
        dropped = 0
        while len(self._items) > 1 and self._is_over():
            self._take_oldest()
            dropped += 1
        return dropped

    def take(self, at_most: int) -> list[T]:
        """Remove and return the oldest items, up to `at_most`."""
        return [self._take_oldest() for _ in range(min(at_most, len(self._items)))]

    def _take_oldest(self) -> T:
        item, size_bytes = self._items.popitem(last=False)[1]
        self._size_bytes -= size_bytes
        return item

    def _is_over(self) -> bool:
        if len(self._items) > self._limit:
            return True
        return self._limit_bytes is not None and self._size_bytes > self._limit_bytes
