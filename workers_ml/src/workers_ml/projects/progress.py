"""Progress of a job: its stage, the number done of the total, and the rate."""

from __future__ import annotations

import time
from collections.abc import Callable

Report = Callable[[str, float, float | None, str], None]
"""Called with stage, done, total and message."""


def report_nothing(stage: str, done: float, total: float | None, message: str) -> None:
    """For a caller without a use for the progress."""


class Stage:
    """One stage of a job; its rate is measured from its beginning."""

    def __init__(
        self,
        report: Report,
        name: str,
        total: float | None,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report, self._name, self._total, self._unit = report, name, total, unit
        self._clock = clock
        self._started = clock()
        self.reached(0)

    def reached(self, done: float) -> None:
        elapsed_s = self._clock() - self._started
        message = ""
        if done and elapsed_s > 0:
            rate = done / elapsed_s
            message = f"{rate:,.0f} {self._unit}/s" if rate >= 10 else f"{rate:.1f} {self._unit}/s"
            if self._total and done < self._total:
                message += f", {(self._total - done) / rate:,.0f} s left"
        self._report(self._name, done, self._total, message)
