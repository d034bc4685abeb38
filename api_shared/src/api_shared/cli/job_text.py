"""A job as text and as JSON. Its claim's token is never shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from api_shared.cli.durations import between, clock, lasted, since, until
from api_shared.job import Job, Progress, Status
from api_shared.ledger.protocol import WorkerInfo
from api_shared.ledger.usage import usage_text

_SECRET = ("token", "args_json", "result_json", "journal", "error", "history", "progress")


def as_json(
    job: Job, *, with_args: bool = False, with_result: bool = False, with_traceback: bool = False
) -> dict[str, Any]:
    """A job as JSON. Arguments, result and traceback only on request: they may be secret."""
    fields = {name: value for name, value in _plain(job).items() if name not in _SECRET}
    fields["args_bytes"] = len(job.args_json)
    fields["result_bytes"] = None if job.result_json is None else len(job.result_json)
    fields["progress"] = None if job.progress is None else asdict(job.progress)
    fields["error"] = None
    if job.error is not None:
        fields["error"] = asdict(job.error)
        if not with_traceback:
            del fields["error"]["traceback"]
    fields["history"] = [
        {name: value for name, value in asdict(entry).items() if name != "change_id"}
        for entry in job.history
    ]
    if with_args:
        fields["args"] = job.args
    if with_result:
        fields["result"] = job.result
    return fields


def _plain(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in Job.__dataclass_fields__}


def end_of(job: Job) -> str:
    """The end of a job, in a line."""
    match job.status:
        case Status.COMPLETED:
            took = between(job.started_at, job.ended_at)
            return f"job {job.id} completed, in {took}"
        case Status.FAILED if job.error is not None:
            return f"job {job.id} failed ({job.error.reason}): {_first_line(job.error.message)}"
        case status:
            return f"job {job.id} {status}"


def progress_text(progress: Progress) -> str:
    """`40 % (4 of 10) count: 4,000 lines`."""
    done = f"{progress.done:g}"
    if progress.total:
        done = f"{100 * progress.done / progress.total:.0f} % ({done} of {progress.total:g})"
    return f"{done} {': '.join(filter(None, (progress.stage, progress.message)))}".rstrip()


def waiting_text(job: Job, workers: Sequence[WorkerInfo], at: datetime) -> str:
    """What a job that has not ended waits for, and until when; empty if it waits for nothing."""
    match job.status:
        case Status.SCHEDULED | Status.RETRYING if job.due_at is not None:
            return f"{until(job.due_at, at)}: {why_again(job)}"
        case Status.QUEUED:
            takers = sum(job.queue in worker.queues for worker in workers)
            who = f"workers alive: {takers}" if takers else "NO worker that takes it is alive"
            return f"in queue {job.queue!r} for {between(job.queued_at, at)}; {who}"
        case Status.PROCESSING if job.due_at is not None and job.due_at < at:
            return f"its worker is silent since {lasted((at - job.due_at).total_seconds())}: " + (
                "the next dispatcher rescues it"
            )
        case Status.FAILED if job.due_at is not None:
            return "its dead letter is not confirmed by RabbitMQ yet"
        case _:
            return ""


def note_of(job: Job) -> str:
    """The note of a job in a list: what it waits for, or why it failed."""
    return job.waits_for or (job.error.reason.value if job.error else "")


def why_again(job: Job) -> str:
    """What a scheduled or retrying job waits for."""
    if job.status is Status.SCHEDULED:
        return "when it is due"
    if job.waits_for is None and job.error is not None:
        return f"the next attempt, after {error_text(job)}"
    return job.waits_for or "handed back"


def error_text(job: Job) -> str:
    if job.error is None:
        return ""
    return f"{job.error.reason}: {job.error.type}: {_first_line(job.error.message)}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def fields_of(
    job: Job,
    workers: Sequence[WorkerInfo],
    at: datetime,
    *,
    owner_usage: Mapping[str, int],
    with_args: bool = False,
    with_result: bool = False,
) -> list[tuple[str, str]]:
    """
    Keys and values for a person; what has no value is left out.

    `owner_usage`: what all jobs of its owner have used up together.
    """
    fields = [
        ("job", job.id),
        ("task", job.task),
        ("status", job.status.value),
        ("waits", waiting_text(job, workers, at)),
        ("progress", progress_text(job.progress) if job.progress else ""),
        ("error", error_text(job)),
        ("cancel", "requested" if job.cancel_requested and not job.status.is_terminal else ""),
        ("queue", f"{job.queue} ({job.broker}), priority {job.priority}"),
        ("owner", job.owner or ""),
        ("correlation", job.correlation_id or ""),
        ("unique", _unique(job)),
        ("labels", " ".join(f"{name}={value}" for name, value in job.labels.items())),
        ("attempts", _attempts(job)),
        ("used", usage_text(job.usage)),
        ("owner used", usage_text(owner_usage)),
        ("worker", job.worker or ""),
        ("accepted", _moment(job.accepted_at, at)),
        ("started", _moment(job.started_at, at)),
        ("ended", _moment(job.ended_at, at)),
        ("ran", between(job.started_at, job.ended_at) if job.ended_at else ""),
        ("expires", _moment(job.expires_at, at)),
        ("arguments", job.args_json if with_args else f"{len(job.args_json):,} bytes (--args)"),
    ]
    if job.result_json is not None:
        size = f"{len(job.result_json):,} bytes (--result)"
        fields.append(("result", job.result_json if with_result else size))
    return [(name, value) for name, value in fields if value]


def _unique(job: Job) -> str:
    """`wine (open)`; `wine (open, free again)` once another job may have the key."""
    if job.unique_key is None:
        return ""
    until = f" until {clock(job.unique_until)}" if job.unique_until else ""
    free = "" if job.unique_held else ", free again"
    return f"{job.unique_key} ({job.unique_scope}{until}{free})"


def _attempts(job: Job) -> str:
    text = f"{job.attempt} failed, {job.lost} lost, claim {job.claim_no}"
    if job.round > 1:
        text += f", round {job.round}"
    return f"{text}; {job.late_writes} late writes refused" if job.late_writes else text


def history_rows(job: Job) -> list[tuple[str, ...]]:
    """A line for each change of status, the oldest first."""
    return [
        (
            entry.status.value,
            f"{clock(entry.at)}.{entry.at.microsecond // 1000:03}",
            str(entry.claim_no or "-"),
            (entry.worker or "-") if entry.claim_no else "-",
            entry.note,
        )
        for entry in job.history
    ]


def _moment(then: datetime | None, at: datetime) -> str:
    return "" if then is None else f"{clock(then)} ({since(then, at)})"
