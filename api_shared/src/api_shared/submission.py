"""A submission from what taskiq hands over: its labels are our options."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from taskiq.message import TaskiqMessage

from api_shared.contracts.contract import Contract
from api_shared.contracts.door import Submission
from api_shared.errors import InvalidOption
from api_shared.wire import STRIPPED_LABELS

OPTIONS = frozenset({"priority", "owner", "correlation_id", "queue_name", "delay", "at"})
"""Labels that are options of a kiq, and no labels any more once it is accepted."""


def submission_of(message: TaskiqMessage, contract: Contract[Any, Any]) -> Submission[Any, Any]:
    """Raises `InvalidArguments` and `InvalidOption`."""
    labels = {name: value for name, value in message.labels.items() if value is not None}
    return Submission(
        contract,
        contract.parse(message.args, message.kwargs),
        priority=_number(labels, "priority", int) or 0,
        owner=labels.get("owner"),
        correlation_id=labels.get("correlation_id"),
        job_id=message.task_id,
        queue=labels.get("queue_name"),
        delay=_delay(labels),
        at=_time(labels),
        labels={
            name: str(value)
            for name, value in labels.items()
            if name not in OPTIONS | STRIPPED_LABELS
        },
    )


def _delay(labels: dict[str, Any]) -> timedelta | None:
    delay_s = _number(labels, "delay", float)
    try:
        return None if delay_s is None else timedelta(seconds=delay_s)
    except (ValueError, OverflowError):
        raise InvalidOption("delay", labels["delay"], "a number of seconds is wanted") from None


def _time(labels: dict[str, Any]) -> datetime | None:
    if "at" not in labels:
        return None
    try:
        return datetime.fromisoformat(str(labels["at"]))
    except ValueError:
        raise InvalidOption("at", labels["at"], "a time in ISO 8601 is wanted") from None


def _number(labels: dict[str, Any], name: str, kind: type[int] | type[float]) -> Any:
    if name not in labels:
        return None
    try:
        return kind(labels[name])
    except (TypeError, ValueError):
        raise InvalidOption(name, labels[name], "a number is wanted") from None
