"""How far a job is: stage, done of total, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str, float, float | None, str], None]
"""Stage, done, total, message."""


def tell_nobody(stage: str, done: float, total: float | None, message: str) -> None:
    """For a caller that does not want to know."""


class Stage:
    """One stage of a job; its rate counts from where it began."""

    def __init__(
        self,
        tell: Tell,
        name: str,
        total: float | None,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._name, self._total, self._unit = tell, name, total, unit
        self._clock = clock
        self._started = clock()
        self.at(0)

    def at(self, done: float) -> None:
        elapsed_s = self._clock() - self._started
        message = ""
        if done and elapsed_s > 0:
            rate = done / elapsed_s
            message = f"{rate:,.0f} {self._unit}/s" if rate >= 10 else f"{rate:.1f} {self._unit}/s"
            if self._total and done < self._total:
                message += f", {(self._total - done) / rate:,.0f} s left"
        self._tell(self._name, done, self._total, message)
