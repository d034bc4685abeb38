"""The headers of a dead letter: its reason, and the round of the job that it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEAD_REASON = "x-dead-reason"
DEAD_DETAIL = "x-dead-detail"
DEAD_QUEUE = "x-dead-queue"
DEAD_ROUND = "x-dead-round"
DEAD_OWNER = "x-dead-owner"
DEAD_CORRELATION_ID = "x-dead-correlation-id"

MAX_DETAIL = 1000
MAX_TEXT = 200
MOST_ROUNDS = 2**31


@dataclass(frozen=True, slots=True)
class DeadLetterHeaders:
    """
    `queue` is the queue from which the message was consumed. `round`, `owner` and `correlation_id`
    are those of a failed job; None for a message that is no job.
    """

    reason: str
    detail: str
    queue: str
    round: int | None = None
    owner: str | None = None
    correlation_id: str | None = None

    @property
    def headers(self) -> dict[str, Any]:
        headers = {
            DEAD_REASON: self.reason,
            DEAD_DETAIL: self.detail[:MAX_DETAIL],
            DEAD_QUEUE: self.queue,
            DEAD_ROUND: self.round,
            DEAD_OWNER: self.owner,
            DEAD_CORRELATION_ID: self.correlation_id,
        }
        return {name: _sendable(value) for name, value in headers.items() if value is not None}

    @property
    def ended_round(self) -> int:
        """
        The round that this dead letter ended. Without a number it is the first round of its job.
        """
        return self.round or 1


def dead_letter_headers_of(headers: Mapping[str, Any]) -> DeadLetterHeaders | None:
    """
    The headers of a dead letter, in whatever queue it is. None: the message is no dead letter.

    Anybody can write headers: values in another form than ours are ignored.
    """
    reason = _text(headers.get(DEAD_REASON))
    if reason is None:
        return None
    number = headers.get(DEAD_ROUND)
    is_round = type(number) is int and 0 < number < MOST_ROUNDS
    return DeadLetterHeaders(
        reason,
        _text(headers.get(DEAD_DETAIL), MAX_DETAIL) or "",
        _text(headers.get(DEAD_QUEUE)) or "",
        number if is_round else None,
        _text(headers.get(DEAD_OWNER)),
        _text(headers.get(DEAD_CORRELATION_ID)),
    )


def _sendable(value: str | int) -> str | int:
    """AMQP accepts only UTF-8, and a name from JSON can hold what UTF-8 cannot."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _text(value: Any, limit: int = MAX_TEXT) -> str | None:
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "replace")
    return value[:limit] if isinstance(value, str) and value else None
