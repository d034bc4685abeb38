"""The context of a running job: in the worker, and in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

from api_shared.errors import ClaimLost, InvalidOption, TooLarge
from api_shared.job import Progress
from api_shared.json_text import MAX_DEPTH, is_too_deep
from api_shared.worker.context import JobContext
from api_shared.worker.job_process import current_job
from api_shared.worker.run.held_claim import HeldClaim, Stop

MAX_KEY = 200


class LiveJob(JobContext):
    """The context in the worker's own process."""

    def __init__(self, claim: HeldClaim, max_entry_bytes: int) -> None:
        super().__init__(claim.job, claim.journal)
        self._claim = claim
        self._max_entry_bytes = max_entry_bytes

    @property
    def stop_requested(self) -> bool:
        running = self._claim.running
        return self._claim.stopped.done() or (
            running is not None and monotonic() >= running.soft_limit_at
        )

    def progress(
        self, done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None:
        self._claim.report(progress_of(done, total, stage, message))

    async def record(self, key: str, value: Any, *, usage: Mapping[str, int] | None = None) -> None:
        if not 0 < len(key) <= MAX_KEY:
            raise InvalidOption("key", key[:MAX_KEY], f"must have 1 to {MAX_KEY} characters")
        try:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidOption("value", type(value).__name__, f"must be JSON: {error}") from None
        if is_too_deep(text):
            problem = f"must not be nested deeper than {MAX_DEPTH}"
            raise InvalidOption("value", type(value).__name__, problem)
        if len(text) > self._max_entry_bytes:
            raise TooLarge(f"{key!r}", len(text), self._max_entry_bytes, "MAX_RESULT_BYTES")
        await self._claim.record(key, text, usage or {})

    async def write(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidOption("write", type(text).__name__, "must be text")
        if self._claim.stop_reason is Stop.LOST:
            raise ClaimLost(self.id)
        self._claim.text.write(text, limit_bytes=self._max_entry_bytes)


class ProcessJob(JobContext):
    """The context of a synchronous task: it travels to the job's own process."""

    @property
    def stop_requested(self) -> bool:
        return current_job().stop_requested

    def progress(
        self, done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None:
        current_job().progress(done, total, message, stage=stage)


def progress_of(done: Any, total: Any, stage: Any, message: Any) -> Progress:
    """The progress that a body reports, in a form that every store can hold."""
    return Progress(_number(done) or 0.0, _number(total), _text(stage, 200), _text(message, 500))


def _number(value: Any) -> float | None:
    number = float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None
    return None if number is None or number != number else number  # noqa: PLR0124 - not NaN


def _text(value: Any, limit: int) -> str:
    return str(value or "")[:limit].encode("utf-8", "replace").decode()
