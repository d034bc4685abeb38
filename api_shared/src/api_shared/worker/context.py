"""What a task may ask of the job it runs for: `job: JobContext = TaskiqDepends()`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from api_shared.errors import InvalidOption, TooLarge
from api_shared.job import Job, Progress
from api_shared.worker.claims import HeldClaim, Stop
from api_shared.worker.compute import current_job

MAX_KEY = 200


class JobContext:
    """
    One job, as its own body sees it.

    `attempt` is 1 for the first try; `claim_no` counts every start, after a crash too.
    """

    def __init__(self, job: Job, journal: Mapping[str, str]) -> None:
        self._journal = journal
        self.id = job.id
        self.task = job.task
        self.attempt = job.attempt + 1
        self.claim_no = job.claim_no
        self.owner = job.owner
        self.correlation_id = job.correlation_id

    @property
    def stop_requested(self) -> bool:
        """Whether the job was asked to end: cancelled, or at its soft limit."""
        raise NotImplementedError

    def progress(
        self, done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None:
        """Say how far the work is. Costs nothing to call often: the latest wins."""
        raise NotImplementedError

    def recall(self, key: str) -> Any:
        """What an earlier run of this job recorded under `key`; None if nothing."""
        text = self._journal.get(key)
        return None if text is None else json.loads(text)

    async def record(self, key: str, value: Any) -> None:
        """
        Record `value` (JSON) durably under `key`: a run after a crash recalls it.

        When this returns, the ledger has it, exactly once. Raises `ClaimLost` (let it pass: the
        job is another worker's now), `TooLarge`, `InvalidOption`.
        """
        raise InvalidOption("record", key, "only an async task can write to the journal")


class LiveJob(JobContext):
    """The context in the worker's own process."""

    def __init__(self, claim: HeldClaim, max_entry_bytes: int) -> None:
        super().__init__(claim.job, claim.journal)
        self._claim = claim
        self._max_entry_bytes = max_entry_bytes

    @property
    def stop_requested(self) -> bool:
        return self._claim.stop_reason is Stop.CANCEL

    def progress(
        self, done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None:
        self._claim.report(progress_of(done, total, stage, message))

    async def record(self, key: str, value: Any) -> None:
        if not 0 < len(key) <= MAX_KEY:
            raise InvalidOption("key", key[:MAX_KEY], f"1 to {MAX_KEY} characters are wanted")
        try:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise InvalidOption("value", type(value).__name__, f"not JSON: {error}") from None
        if len(text) > self._max_entry_bytes:
            raise TooLarge(f"{key!r}", len(text), self._max_entry_bytes, "MAX_RESULT_BYTES")
        await self._claim.record(key, text)


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
    """Whatever a body says, as something that every store can hold."""
    return Progress(_number(done) or 0.0, _number(total), _text(stage, 200), _text(message, 500))


def _number(value: Any) -> float | None:
    number = float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None
    return None if number is None or number != number else number  # noqa: PLR0124 - not NaN


def _text(value: Any, limit: int) -> str:
    return str(value or "")[:limit].encode("utf-8", "replace").decode()
