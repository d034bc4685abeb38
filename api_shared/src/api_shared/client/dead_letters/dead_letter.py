"""One message of a dead-letter queue, and what the ledger says of its job."""

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
    """Its job has failed in this round: requeue starts the next."""
    STALE = "stale"
    """Its job has gone on since, or ended otherwise: there is nothing to requeue."""
    UNRECORDED = "unrecorded"
    """A job of which the ledger has no record, or none any more: put back, it is recorded again."""
    GARBAGE = "garbage"
    """No job at all: put back, it is tried once more as it is."""


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """A message as it lies in `queue.dead_letter_queue`; `buried_at` is its sender's clock."""

    queue: QueueSpec
    body: bytes
    headers: Mapping[str, Any]
    priority: int
    buried_at: datetime | None
    tag: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`key` names it on the command line: its job's id, or `raw-` and a digest of its bytes."""

    key: str
    kind: Kind
    message: DeadMessage
    mark: DeadLetterHeaders
    task: str | None
    job: Job | None

    @property
    def owner(self) -> str | None:
        return self.job.owner if self.job else self.mark.owner

    @property
    def died_at(self) -> datetime | None:
        """When its job failed, by the ledger's clock; else when the message was buried."""
        if self.job is not None and self.kind is Kind.FAILED:
            return self.job.ended_at
        return self.message.buried_at


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; a field that is None does not filter, nor do empty `keys`."""

    keys: frozenset[str] = frozenset()
    task: str | None = None
    owner: str | None = None
    reason: str | None = None
    kind: Kind | None = None
    died_before: datetime | None = None
    died_after: datetime | None = None

    def matches(self, letter: DeadLetter) -> bool:
        died_at = letter.died_at
        return (
            (not self.keys or letter.key in self.keys)
            and (self.task is None or letter.task == self.task)
            and (self.owner is None or letter.owner == self.owner)
            and (self.reason is None or letter.mark.reason == self.reason)
            and (self.kind is None or letter.kind is self.kind)
            and (self.died_before is None or (died_at is not None and died_at < self.died_before))
            and (self.died_after is None or (died_at is not None and died_at >= self.died_after))
        )


async def letter_of(message: DeadMessage, ledger: Ledger) -> DeadLetter:
    """Raises `LedgerUnavailable`."""
    mark = dead_letter_headers_of(message.headers) or DeadLetterHeaders(
        "unknown", "", message.queue.name
    )
    try:
        wire = decode(message.body, max_bytes=len(message.body))
    except Unreadable:
        return DeadLetter(_digest(message.body), Kind.GARBAGE, message, mark, None, None)
    job = await ledger.get(wire.job_id)
    if job is not None and job.task != wire.task:  # somebody else's message under this job's id
        return DeadLetter(_digest(message.body), Kind.GARBAGE, message, mark, wire.task, None)
    return DeadLetter(wire.job_id, _kind(job, mark), message, mark, wire.task, job)


def _kind(job: Job | None, mark: DeadLetterHeaders) -> Kind:
    if job is None:
        return Kind.UNRECORDED
    return Kind.FAILED if has_ended(job, mark) else Kind.STALE


def has_ended(job: Job, mark: DeadLetterHeaders) -> bool:
    """Whether this is the dead letter of the job's present round."""
    return job.status is Status.FAILED and job.round == mark.ended_round


def _digest(body: bytes) -> str:
    return f"raw-{hashlib.sha256(body).hexdigest()[:12]}"
