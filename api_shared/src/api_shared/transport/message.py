"""
The message of a job: taskiq's JSON message, with headers of this platform.

Plain taskiq clients and services in other languages can write it. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_shared.errors import InvalidJobId
from api_shared.job import Job, Reason, parse_job_id
from api_shared.json_text import MAX_DEPTH, deeper_than

ACCEPTED = "x-accepted"
"""Header of messages that this platform published: the ledger has (or had) a record of the job."""

MAX_LABELS = 64
MAX_LABEL_LENGTH = 1024
MAX_LABELS_BYTES = 64 * 1024
STRIPPED_LABELS = frozenset({"ack_type", "timeout"})
"""Labels that taskiq's receiver would obey, and that a sender must not set."""


class Unreadable(ValueError):
    """A message that is no job of this platform. `reason` is that of its dead letter."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class JobMessage:
    """The content of a message. Its types, sizes and depth are checked, its arguments not yet."""

    job_id: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    labels: dict[str, str]


def encode(job: Job) -> bytes:
    """The message of a job, from its record. The text of its arguments is inserted as it is."""
    head: dict[str, Any] = {
        "task_id": job.id,
        "task_name": job.task,
        "labels": job.labels,
        "labels_types": None,
        "args": [],
    }
    return f'{json.dumps(head, separators=(",", ":"))[:-1]},"kwargs":{job.args_json}}}'.encode()


def decode(body: bytes, *, max_bytes: int) -> JobMessage:
    """Raises `Unreadable`, whatever the bytes are."""
    if len(body) > max_bytes:
        raise Unreadable(Reason.TOO_LARGE, f"{len(body):,} bytes, over {max_bytes:,}")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable(Reason.UNREADABLE, f"not JSON: {str(error)[:200]}") from None
    if not isinstance(message, dict):
        raise Unreadable(Reason.UNREADABLE, "not a JSON object")
    task, args, kwargs = (
        message.get("task_name"),
        message.get("args", []),
        message.get("kwargs", {}),
    )
    if not isinstance(task, str) or not 0 < len(task) <= 200:
        raise Unreadable(Reason.UNREADABLE, "task_name must be a text of 1 to 200 characters")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable(Reason.UNREADABLE, "args must be a list, and kwargs an object")
    if deeper_than(message, MAX_DEPTH):
        raise Unreadable(Reason.UNREADABLE, f"must not be nested deeper than {MAX_DEPTH}")
    try:
        job_id = parse_job_id(message.get("task_id"))
    except InvalidJobId:
        detail = "task_id must be 24 hexadecimal digits (an ObjectId)"
        raise Unreadable(Reason.INVALID_JOB_ID, detail) from None
    labels = _labels(message.get("labels") or {})
    return JobMessage(job_id, task, args, kwargs, labels)


def _labels(labels: Any) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        raise Unreadable(Reason.UNREADABLE, "labels must be an object")
    texts = {str(name): str(value) for name, value in labels.items() if name not in STRIPPED_LABELS}
    if problem := labels_problem(texts):
        raise Unreadable(Reason.UNREADABLE, f"labels {problem}")
    return texts


def labels_problem(labels: Mapping[str, str]) -> str | None:
    """Why workers would refuse these labels; None if they would not."""
    if len(labels) > MAX_LABELS:
        return f"must be at most {MAX_LABELS}"
    if any(len(name) + len(value) > MAX_LABEL_LENGTH for name, value in labels.items()):
        return f"must have at most {MAX_LABEL_LENGTH} characters each"
    if len(json.dumps(dict(labels))) > MAX_LABELS_BYTES:
        return f"must be at most {MAX_LABELS_BYTES:,} bytes of JSON"
    return None
