"""What a task may ask of the job it runs for: `job: JobContext = TaskiqDepends()`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

from api_shared.errors import ClaimLost, InvalidOption, TooLarge
from api_shared.job import Job, Progress
from api_shared.wire import MAX_DEPTH, is_too_deep
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
        """Whether the job was asked to end: cancelled, its worker stops, or at its soft limit."""
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

    async def record(self, key: str, value: Any, *, usage: Mapping[str, int] | None = None) -> None:
        """
        Record `value` (JSON) durably under `key`: a run after a crash recalls it.

        When this returns, the ledger has it, exactly once. `usage` (`{"prompt_tokens": 12}`) is
        added to what the job has used, in the same write: it counts once, too. Raises `ClaimLost`
        (let it pass: the job is another worker's now), `TooLarge`, `InvalidOption`.
        """
        raise InvalidOption("record", key, "only an async task can write to the journal")

    async def write(self, text: str) -> None:
        """
        Let whoever listens (`handle.stream()`, `kiq watch`) read `text` now, behind what this run
        has written before.

        A run after a crash begins anew; what it recalls from the journal, it writes again. The
        result is to carry the whole text (as the result itself, or as its field `text`): that is
        where listeners find what Redis lost. Never waits. Raises `TooLarge`, `InvalidOption`, and
        `ClaimLost` (let it pass).
        """
        raise InvalidOption("write", text[:50], "only an async task can stream text")


class LiveJob(JobContext):
    """The context in the worker's own process."""

    def __init__(self, claim: HeldClaim, max_entry_bytes: int) -> None:
        super().__init__(claim.job, claim.journal)
        self._claim = claim
        self._max_entry_bytes = max_entry_bytes

    @property
    def stop_requested(self) -> bool:
        body = self._claim.body
        return self._claim.stopped.done() or (
            body is not None and monotonic() >= body.soft_limit_at
        )

    def progress(
        self, done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None:
        self._claim.report(progress_of(done, total, stage, message))

    async def record(self, key: str, value: Any, *, usage: Mapping[str, int] | None = None) -> None:
        if not 0 < len(key) <= MAX_KEY:
            raise InvalidOption("key", key[:MAX_KEY], f"1 to {MAX_KEY} characters are wanted")
        try:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidOption("value", type(value).__name__, f"not JSON: {error}") from None
        if is_too_deep(text):
            wanted = f"nested deeper than {MAX_DEPTH}"
            raise InvalidOption("value", type(value).__name__, wanted)
        if len(text) > self._max_entry_bytes:
            raise TooLarge(f"{key!r}", len(text), self._max_entry_bytes, "MAX_RESULT_BYTES")
        await self._claim.record(key, text, usage or {})

    async def write(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidOption("write", type(text).__name__, "text is wanted")
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
    """Whatever a body says, as something that every store can hold."""
    return Progress(_number(done) or 0.0, _number(total), _text(stage, 200), _text(message, 500))


def _number(value: Any) -> float | None:
    number = float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None
    return None if number is None or number != number else number  # noqa: PLR0124 - not NaN


def _text(value: Any, limit: int) -> str:
    return str(value or "")[:limit].encode("utf-8", "replace").decode()
