"""
Requests that an API has recorded itself, in the collection `requests` of DATABASE_NAME.

Any MongoDB client can write one: `{_id, kind, request, owner?}`. The job `process_job` runs it and
writes back `status`, `result` or `error`, and `job_id`, the platform's own. A service in Python:

    record_id = await record_request("text", {"prompt": "Hello"}, owner="ada")
    await PROCESS_JOB.kiq(ProcessJobArgs(job_id=record_id), job_id=record_id, owner="ada")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from api_shared.errors import InvalidOption, UsageError


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
        """
        Record a request; the same once more changes nothing. Raises `RecordExists`, and
        `InvalidOption` for what is no JSON.
        """

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


def as_stored(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    The request as it is read again: a tuple is a list then. Raises `InvalidOption` for what is no
    JSON, and for what JSON can hold and MongoDB cannot.
    """
    try:
        text = json.dumps(dict(request), allow_nan=False, ensure_ascii=False)
        text.encode()  # a lone surrogate cannot be
        stored: dict[str, Any] = json.loads(text, parse_int=_whole)
    except (TypeError, ValueError, RecursionError) as error:
        wanted = f"an object of JSON is wanted: {error}"
        raise InvalidOption("request", type(error).__name__, wanted) from None
    return stored


def _whole(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError("a whole number has at most 64 bits")
    return number
