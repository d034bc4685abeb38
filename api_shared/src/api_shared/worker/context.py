"""The context of a job, for its task: `job: JobContext = TaskiqDepends()`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from api_shared.errors import InvalidOption
from api_shared.job import Job


class JobContext:
    """
    A job, as its task sees it.

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
        """Report how far the work is. Frequent calls are cheap: only the latest report counts."""
        raise NotImplementedError

    def recall(self, key: str) -> Any:
        """What an earlier run of this job recorded under `key`; None if nothing."""
        text = self._journal.get(key)
        return None if text is None else json.loads(text)

    async def record(self, key: str, value: Any, *, usage: Mapping[str, int] | None = None) -> None:
        """
        Record `value` (JSON) durably under `key`: a run after a crash recalls it.

        When this returns, the ledger holds it, exactly once. `usage` (`{"prompt_tokens": 12}`) is
        added to what the job has used, in the same write: it counts once, too. Raises `ClaimLost`
        (do not catch it: another worker has the job now), `TooLarge`, `InvalidOption`.
        """
        raise InvalidOption("record", key, "only an async task can write to the journal")

    async def write(self, text: str) -> None:
        """
        Append `text` to the text of this run, which listeners read now (`handle.stream()`,
        `kiq watch`).

        A run after a crash begins anew, and writes again what it recalls from the journal. The
        result must hold the whole text (as the result itself, or as its field `text`): listeners
        find there what Redis lost. Never waits. Raises `TooLarge`, `InvalidOption`, and `ClaimLost`
        (do not catch it).
        """
        raise InvalidOption("write", text[:50], "only an async task can stream text")
