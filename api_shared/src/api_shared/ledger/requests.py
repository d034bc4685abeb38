"""
Recorded requests, which an API writes into the collection `requests` of DATABASE_NAME.

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
    """The status of a record; a record without one waits. Wire names: they never change."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


CAN_BE_TAKEN_OVER = (RecordStatus.FAILED, RecordStatus.CANCELLED)
"""Records of these statuses can be given to another job, when their request is made again."""


class RecordExists(UsageError):
    def __init__(self, record_id: str) -> None:
        self.record_id = record_id
        super().__init__(
            f"a request is already recorded as {record_id!r}, with other content: use a new id"
        )


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """
    A record as it was read. Other programs write it, so `kind` and `request` may be anything.

    `job_id` is its job; `result` is set once it is completed.
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
    """The collection of requests. All methods raise `LedgerUnavailable`."""

    async def add(
        self, record_id: str, kind: str, request: Mapping[str, Any], owner: str | None
    ) -> None:
        """
        Record a request. Recording the same again changes nothing. Raises `RecordExists`, and
        `InvalidOption` if the request is not JSON.
        """

    async def get(self, record_id: str) -> RecordedRequest | None: ...

    async def begin(
        self, record_id: str, job_id: str, *, after: str | None = None
    ) -> RecordedRequest | None:
        """
        Give the record to this job, if it has no job, or if its job has failed, was cancelled, or
        is `after`, which has ended without recording it.

        Returns the record as it is now. With another `job_id` or the status completed, nothing was
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
        Write the end of the record's job. False: the record has another job, or is completed.

        Repeated calls change nothing.
        """


def as_stored(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    The request as it will be read: a tuple becomes a list. Raises `InvalidOption` for values that
    are not JSON, or that MongoDB cannot hold.
    """
    try:
        text = json.dumps(dict(request), allow_nan=False, ensure_ascii=False)
        text.encode()  # a lone surrogate cannot be encoded
        stored: dict[str, Any] = json.loads(text, parse_int=_whole)
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"must be a JSON object: {error}"
        raise InvalidOption("request", type(request).__name__, problem) from None
    return stored


def _whole(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError("a whole number can have at most 64 bits")
    return number
