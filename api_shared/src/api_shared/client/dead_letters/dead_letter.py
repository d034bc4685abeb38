"""A message of a dead-letter queue, together with the record of its job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from api_shared.job import Job, Status
from api_shared.ledger.protocol import Ledger
from api_shared.transport.dead_letter_headers import DeadLetterHeaders, dead_letter_headers_of
from api_shared.transport.message import Unreadable, decode
from api_shared.transport.topology import QueueSpec


class Kind(StrEnum):
    """What can be done with a dead letter."""

    FAILED = "failed"
    """Its job has failed in this round: a requeue begins the next one."""
    STALE = "stale"
    """Its job has gone on since, or has ended in another way: there is nothing to requeue."""
    UNRECORDED = "unrecorded"
    """The ledger has no record of its job. After a requeue the job is recorded again."""
    GARBAGE = "garbage"
    """It is no job. After a requeue a worker tries the message once more, unchanged."""


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """
    A message in `queue.dead_letter_queue`. `dead_lettered_at` is by the clock of its publisher.
    """

    queue: QueueSpec
    body: bytes
    headers: Mapping[str, Any]
    priority: int
    dead_lettered_at: datetime | None
    tag: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    `key` is its name on the command line: the id of its job, or `raw-` and a digest of its bytes.
    """

    key: str
    kind: Kind
    message: DeadMessage
    headers: DeadLetterHeaders
    task: str | None
    job: Job | None

    @property
    def owner(self) -> str | None:
        return self.job.owner if self.job else self.headers.owner

    @property
    def died_at(self) -> datetime | None:
        """
        When its job failed, by the ledger's clock. Otherwise when the message was dead-lettered.
        """
        if self.job is not None and self.kind is Kind.FAILED:
            return self.job.ended_at
        return self.message.dead_lettered_at


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A choice of dead letters. A field that is None does not filter, nor do empty `keys`."""

    keys: frozenset[str] = frozenset()
    task: str | None = None
    owner: str | None = None
    reason: str | None = None
    kind: Kind | None = None
    died_before: datetime | None = None
    died_after: datetime | None = None

    def matches(self, dead_letter: DeadLetter) -> bool:
        died_at = dead_letter.died_at
        return (
            (not self.keys or dead_letter.key in self.keys)
            and (self.task is None or dead_letter.task == self.task)
            and (self.owner is None or dead_letter.owner == self.owner)
            and (self.reason is None or dead_letter.headers.reason == self.reason)
            and (self.kind is None or dead_letter.kind is self.kind)
            and (self.died_before is None or (died_at is not None and died_at < self.died_before))
            and (self.died_after is None or (died_at is not None and died_at >= self.died_after))
        )


async def dead_letter_of(message: DeadMessage, ledger: Ledger) -> DeadLetter:
    """The dead letter of a message. Raises `LedgerUnavailable`."""
    headers = dead_letter_headers_of(message.headers) or DeadLetterHeaders(
        "unknown", "", message.queue.name
    )
    try:
        content = decode(message.body, max_bytes=len(message.body))
    except Unreadable:
        return DeadLetter(_digest(message.body), Kind.GARBAGE, message, headers, None, None)
    job = await ledger.get(content.job_id)
    if job is not None and job.task != content.task:  # a message of another task under this id
        return DeadLetter(_digest(message.body), Kind.GARBAGE, message, headers, content.task, None)
    return DeadLetter(content.job_id, _kind(job, headers), message, headers, content.task, job)


def _kind(job: Job | None, headers: DeadLetterHeaders) -> Kind:
    if job is None:
        return Kind.UNRECORDED
    return Kind.FAILED if has_ended(job, headers) else Kind.STALE


def has_ended(job: Job, headers: DeadLetterHeaders) -> bool:
    """Whether these headers are of the dead letter of the job's present round."""
    return job.status is Status.FAILED and job.round == headers.ended_round


def _digest(body: bytes) -> str:
    return f"raw-{hashlib.sha256(body).hexdigest()[:12]}"
