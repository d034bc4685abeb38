"""
Requests that an API has recorded itself, in the collection `requests` of DATABASE_NAME.

Any MongoDB client can write one: `{_id, kind, request, owner?}`. The job `process_job` runs it and
writes back `status`, `result` or `error`, and `job_id`, the platform's own. A service in Python:

    record_id = await record_request("text", {"prompt": "Hello"}, owner="ada")
    await PROCESS_JOB.kiq(ProcessJobArgs(job_id=record_id), job_id=record_id, owner="ada")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from api_shared.errors import UsageError
from api_shared.job import new_job_id


class RecordStatus(StrEnum):
    """As it stands in the record; a record without one waits. Wire names: they never change."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


CAN_BE_TAKEN_OVER = (RecordStatus.FAILED, RecordStatus.CANCELLED)
"""By another job than the one it belonged to: somebody asks for it again."""


class RecordExists(UsageError):
    def __init__(self, record_id: str) -> None:
        self.record_id = record_id
        super().__init__(
            f"a request is recorded as {record_id!r} already, and it is another one: use a new id"
        )


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """
    A record as it was read: whoever wrote it, `kind` and `request` may be anything.

    `job_id` is the job it belongs to; `result` is set once it is completed.
    """

    id: str
    kind: object
    request: object
    owner: str | None = None
    status: str | None = None
    job_id: str | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None


class RecordedRequests(Protocol):
    """The collection. All raise `LedgerUnavailable`."""

    async def add(
        self, record_id: str, kind: str, request: Mapping[str, Any], owner: str | None
    ) -> None:
        """Record a request; the same once more changes nothing. Raises `RecordExists`."""

    async def get(self, record_id: str) -> RecordedRequest | None: ...

    async def begin(
        self, record_id: str, job_id: str, *, after: str | None = None
    ) -> RecordedRequest | None:
        """
        Make the record this job's, if it is nobody's, or is another's that failed or was cancelled,
        or that of the job `after`, which has ended without a word.

        The record as it is now: another `job_id` or a status of completed means that nothing was
        changed. None: there is no such record.
        """

    async def end(
        self,
        record_id: str,
        job_id: str,
        status: RecordStatus,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """
        Write the end of the record's job; False where it is not that job's, or completed already.

        Saying it again changes nothing.
        """


async def record_request(
    kind: str,
    request: Mapping[str, Any],
    *,
    owner: str | None = None,
    record_id: str | None = None,
) -> str:
    """
    Record a request for `process_job`; its id, which may be the job's id too.

    `request` holds the arguments of the task that `kind` names. With a `record_id` of your own the
    call may be repeated. Raises `RecordExists`, `NotStarted`, `LedgerUnavailable`.
    """
    from api_shared.contracts.door import door_of

    record_id = new_job_id() if record_id is None else record_id
    requests: RecordedRequests = door_of("general").backing.ledger.requests
    await requests.add(record_id, kind, request, owner)
    return record_id
