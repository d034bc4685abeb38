"""A submission from what taskiq hands over: its labels are our options."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from taskiq.message import TaskiqMessage

from api_shared.client.contract import Contract
from api_shared.client.started_brokers import Submission
from api_shared.client.unique import SCOPES, UniqueFor
from api_shared.errors import InvalidOption
from api_shared.transport.message import STRIPPED_LABELS

OPTIONS = frozenset(
    {"priority", "owner", "correlation_id", "queue_name", "delay", "at", "unique_key", "unique_for"}
)
"""Labels that are options of a kiq, and no labels any more once it is accepted."""


def submission_of(message: TaskiqMessage, contract: Contract[Any, Any]) -> Submission[Any, Any]:
    """Raises `InvalidArguments` and `InvalidOption`."""
    labels = {name: value for name, value in message.labels.items() if value is not None}
    return Submission(
        contract,
        contract.parse(message.args, message.kwargs),
        priority=_priority(labels),
        owner=labels.get("owner"),
        correlation_id=labels.get("correlation_id"),
        job_id=message.task_id,
        queue=labels.get("queue_name"),
        delay=_seconds(labels, "delay"),
        at=_time(labels),
        unique_key=labels.get("unique_key"),
        unique_for=_unique_for(labels),
        labels={
            name: str(value)
            for name, value in labels.items()
            if name not in OPTIONS | STRIPPED_LABELS
        },
    )


def _unique_for(labels: dict[str, Any]) -> UniqueFor | None:
    match labels.get("unique_for"):
        case "waiting":
            return "waiting"
        case "open":
            return "open"
        case _:
            wanted = f"a number of seconds, or one of {', '.join(SCOPES)}"
            return _seconds(labels, "unique_for", wanted)


def _seconds(
    labels: dict[str, Any], name: str, wanted: str = "a number of seconds is wanted"
) -> timedelta | None:
    if name not in labels:
        return None
    try:
        return timedelta(seconds=float(labels[name]))
    except (TypeError, ValueError, OverflowError):
        raise InvalidOption(name, labels[name], wanted) from None


def _time(labels: dict[str, Any]) -> datetime | None:
    if "at" not in labels:
        return None
    try:
        return datetime.fromisoformat(str(labels["at"]))
    except ValueError:
        raise InvalidOption("at", labels["at"], "a time in ISO 8601 is wanted") from None


def _priority(labels: dict[str, Any]) -> int:
    try:
        return int(labels.get("priority", 0))
    except (TypeError, ValueError, OverflowError):
        raise InvalidOption("priority", labels["priority"], "a number is wanted") from None
