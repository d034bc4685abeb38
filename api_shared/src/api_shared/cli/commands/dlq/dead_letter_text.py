"""A dead letter as text and as JSON."""

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


def row(dead_letter: DeadLetter, at: datetime) -> tuple[str, ...]:
    return (
        dead_letter.key,
        dead_letter.kind.value,
        dead_letter.message.queue.name,
        dead_letter.task or "-",
        dead_letter.owner or "-",
        since(dead_letter.died_at, at),
        str(dead_letter.job.attempt + dead_letter.job.lost) if dead_letter.job else "-",
        dead_letter.headers.reason,
        dead_letter.headers.detail.partition("\n")[0][:200],
    )


def fields_of(
    dead_letter: DeadLetter, at: datetime, *, with_args: bool, with_body: bool
) -> list[tuple[str, str]]:
    """Keys and values for a person: the dead letter's, then its job's."""
    message = dead_letter.message
    moment = "" if message.dead_lettered_at is None else clock(message.dead_lettered_at)
    fields = [
        ("dead letter", dead_letter.key),
        ("kind", f"{dead_letter.kind}: {MEANINGS[dead_letter.kind]}"),
        ("dead-letter queue", message.queue.dead_letter_queue),
        ("dead-lettered", f"{moment} ({since(message.dead_lettered_at, at)})" if moment else ""),
        ("reason", dead_letter.headers.reason),
        ("detail", dead_letter.headers.detail),
        ("ended round", str(dead_letter.headers.ended_round) if dead_letter.job else ""),
        ("bytes", _body(dead_letter) if with_body else f"{len(message.body):,} (--body)"),
    ]
    if dead_letter.job is not None:
        fields += job_text.fields_of(dead_letter.job, (), at, owner_usage={}, with_args=with_args)
    elif dead_letter.task:
        fields.append(("task", dead_letter.task))
    return [(name, value) for name, value in fields if value]


def as_json(dead_letter: DeadLetter, *, with_body: bool = False) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "key": dead_letter.key,
        "kind": dead_letter.kind,
        "queue": dead_letter.message.queue.name,
        "task": dead_letter.task,
        "owner": dead_letter.owner,
        "died_at": dead_letter.died_at,
        "reason": dead_letter.headers.reason,
        "detail": dead_letter.headers.detail,
        "round": dead_letter.headers.ended_round if dead_letter.job else None,
        "attempts": dead_letter.job.attempt if dead_letter.job else None,
        "lost": dead_letter.job.lost if dead_letter.job else None,
        "bytes": len(dead_letter.message.body),
    }
    if with_body:
        fields["body"] = _body(dead_letter)
    return fields


def _body(dead_letter: DeadLetter) -> str:
    return dead_letter.message.body.decode("utf-8", "backslashreplace")
