"""A dead letter in words and as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api_shared.cli import job_text
from api_shared.cli.durations import clock, since
from api_shared.client.dead_letters.dead_letter import DeadLetter, Kind

COLUMNS = ("key", "kind", "queue", "task", "owner", "died", "attempts", "reason", "detail")

MEANINGS = {
    Kind.FAILED: "requeue starts its job's next round",
    Kind.STALE: "its job has gone on since, or ended otherwise: purge it",
    Kind.UNRECORDED: "the ledger has no record of its job: requeue lets a worker record it again",
    Kind.GARBAGE: "no job: requeue puts it back as it is, purge deletes it",
}


def row(letter: DeadLetter, at: datetime) -> tuple[str, ...]:
    return (
        letter.key,
        letter.kind.value,
        letter.message.queue.name,
        letter.task or "-",
        letter.owner or "-",
        since(letter.died_at, at),
        str(letter.job.attempt + letter.job.lost) if letter.job else "-",
        letter.mark.reason,
        letter.mark.detail.partition("\n")[0][:200],
    )


def fields_of(
    letter: DeadLetter, at: datetime, *, with_args: bool, with_body: bool
) -> list[tuple[str, str]]:
    """Keys and values for a person: the letter's, then its job's."""
    message = letter.message
    buried = "" if message.buried_at is None else clock(message.buried_at)
    fields = [
        ("dead letter", letter.key),
        ("kind", f"{letter.kind}: {MEANINGS[letter.kind]}"),
        ("lies in", message.queue.dead_letter_queue),
        ("buried", f"{buried} ({since(message.buried_at, at)})" if buried else ""),
        ("reason", letter.mark.reason),
        ("detail", letter.mark.detail),
        ("ended round", str(letter.mark.ended_round) if letter.job else ""),
        ("bytes", _body(letter) if with_body else f"{len(message.body):,} (--body)"),
    ]
    if letter.job is not None:
        fields += job_text.fields_of(letter.job, (), at, owner_usage={}, with_args=with_args)
    elif letter.task:
        fields.append(("task", letter.task))
    return [(name, value) for name, value in fields if value]


def as_json(letter: DeadLetter, *, with_body: bool = False) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "key": letter.key,
        "kind": letter.kind,
        "queue": letter.message.queue.name,
        "task": letter.task,
        "owner": letter.owner,
        "died_at": letter.died_at,
        "reason": letter.mark.reason,
        "detail": letter.mark.detail,
        "round": letter.mark.ended_round if letter.job else None,
        "attempts": letter.job.attempt if letter.job else None,
        "lost": letter.job.lost if letter.job else None,
        "bytes": len(letter.message.body),
    }
    if with_body:
        fields["body"] = _body(letter)
    return fields


def _body(letter: DeadLetter) -> str:
    return letter.message.body.decode("utf-8", "backslashreplace")
