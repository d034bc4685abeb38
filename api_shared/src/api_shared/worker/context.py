"""The job that a task runs for, as the task sees it: `job: JobContext = TaskiqDepends()`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from api_shared.errors import InvalidOption
from api_shared.job import Job


class JobContext:
    """
    The running job, as its own function sees it.

        @broker.task
        async def total(numbers: list[int], job: JobContext = TaskiqDepends()) -> int:
            result = 0
            for done, number in enumerate(numbers, 1):
                square = job.recall(f"square-{done}")  # None, unless an earlier run recorded it
                if square is None:
                    square = number * number
                    await job.record(f"square-{done}", square)
                result += square
                job.progress(done, len(numbers), stage="squares")
            return result

        handle = await total.kiq([1, 2])
        assert await handle.result() == 5

    `attempt` is 1 for the first try; `claim_no` counts every start, also one after a crash.
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
        """Report how far the work is. It is cheap to call often: the latest call counts."""
        raise NotImplementedError

    def recall(self, key: str) -> Any:
        """The value that an earlier run of this job recorded under `key`; None if there is none."""
        text = self._journal.get(key)
        return None if text is None else json.loads(text)

    async def record(self, key: str, value: Any, *, usage: Mapping[str, int] | None = None) -> None:
        """
        Record `value` (JSON) durably under `key`, so that a run after a crash recalls it.

        When this returns, the ledger has it, exactly once. `usage` (`{"prompt_tokens": 12}`) is
        added to what the job has used, in the same write, so it counts once, too. Raises
        `ClaimLost` (do not catch it: another worker has the job now), `TooLarge`, `InvalidOption`.
        """
        raise InvalidOption("record", key, "only an async task can write to the journal")

    async def write(self, text: str) -> None:
        """
        Append `text` to what this run has written: `handle.stream()` and `kiq watch` show it live.

            @broker.task
            async def tell_story(job: JobContext = TaskiqDepends()) -> str:
                text = ""
                for word in ("Once ", "upon ", "a time"):
                    await job.write(word)
                    text += word
                return text

        A run after a crash starts an empty text; what it recalls from the journal, it must write
        again. The result must hold the whole text (as the result itself, or as its field `text`):
        there listeners find what Redis lost. Never waits. Raises `TooLarge`, `InvalidOption`, and
        `ClaimLost` (let it pass).
        """
        raise InvalidOption("write", text[:50], "only an async task can stream text")
