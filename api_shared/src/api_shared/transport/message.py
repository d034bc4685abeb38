"""
What a job looks like on the wire: taskiq's JSON message, and the headers that are ours.

Plain taskiq clients and services in other languages can write it; nothing here unpickles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_shared.errors import InvalidJobId
from api_shared.job import Job, Reason, parse_job_id
from api_shared.json_text import MAX_DEPTH, _deeper_than

ACCEPTED = "x-accepted"
"""Header of messages that we published: the ledger has (or had) a record of the job."""

MAX_LABELS = 64
MAX_LABEL_LENGTH = 1024
MAX_LABELS_BYTES = 64 * 1024
STRIPPED_LABELS = frozenset({"ack_type", "timeout"})
"""Labels that taskiq's receiver would obey and that a sender has no business to set."""


class Unreadable(ValueError):
    """A message that is no job of ours; `reason` is the dead letter's."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A message's content, its shape checked: types, sizes and depth, not yet the arguments."""

    job_id: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    labels: dict[str, str]


def encode(job: Job) -> bytes:
    """The message of a job, from its record. Its arguments are put in as the text they are."""
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
        raise Unreadable(Reason.UNREADABLE, "task_name: a text of 1 to 200 characters is wanted")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable(Reason.UNREADABLE, "args: a list is wanted, kwargs: an object")
    if _deeper_than(message, MAX_DEPTH):
        raise Unreadable(Reason.UNREADABLE, f"nested deeper than {MAX_DEPTH}")
    try:
        job_id = parse_job_id(message.get("task_id"))
    except InvalidJobId:
        detail = "task_id: 24 hexadecimal digits are wanted (an ObjectId)"
        raise Unreadable(Reason.INVALID_JOB_ID, detail) from None
    labels = _labels(message.get("labels") or {})
    return JobMessage(job_id, task, args, kwargs, labels)


def _labels(labels: Any) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        raise Unreadable(Reason.UNREADABLE, "labels: an object is wanted")
    texts = {str(name): str(value) for name, value in labels.items() if name not in STRIPPED_LABELS}
    if problem := labels_problem(texts):
        raise Unreadable(Reason.UNREADABLE, f"labels: {problem}")
    return texts


def labels_problem(labels: Mapping[str, str]) -> str | None:
    """Why no worker would read these labels."""
    if len(labels) > MAX_LABELS:
        return f"at most {MAX_LABELS} are wanted"
    if any(len(name) + len(value) > MAX_LABEL_LENGTH for name, value in labels.items()):
        return f"at most {MAX_LABEL_LENGTH} characters each are wanted"
    if len(json.dumps(dict(labels))) > MAX_LABELS_BYTES:
        return f"at most {MAX_LABELS_BYTES:,} bytes of JSON are wanted"
    return None
