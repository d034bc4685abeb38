"""The floor on which a process's bodies run: side by side, or one of them alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Isolation:
    """
    A body that wants to be alone waits for those that run, and nobody enters meanwhile.

    Nobody waits to enter beside it either: a job that is told no is handed back, so that another
    process can run it.
    """

    def __init__(self) -> None:
        self._running = 0
        self._wanted_alone = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def beside_others(self) -> Iterator[bool]:
        """False: somebody runs alone here, or waits to."""
        if self._wanted_alone:
            yield False
            return
        self._running += 1
        self._empty.clear()
        try:
            yield True
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()

    @asynccontextmanager
    async def alone(self, *, within_s: float, else_beside: bool = False) -> AsyncIterator[bool]:
        """
        False: another one has the floor, or the others did not end `within_s`. With `else_beside`
        it runs beside those, but beside no other one, and nobody enters meanwhile either.
        """
        if self._wanted_alone:
            yield False
            return
        self._wanted_alone = True
        try:
            yield await self._is_empty(within_s) or else_beside
        finally:
            self._wanted_alone = False

    async def _is_empty(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
