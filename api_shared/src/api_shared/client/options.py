"""The options of a kiq: priority, owner, due time, uniqueness and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal

from api_shared.errors import InvalidOption, NaiveDatetime
from api_shared.job import UniqueScope
from api_shared.ledger.change import NowPlus
from api_shared.transport.message import STRIPPED_LABELS

MAX_DELAY = timedelta(days=3660)
MAX_KEY = 200
"""Characters of a unique key. A longer key that is made of arguments becomes a digest."""
LONG_PAST = datetime(2000, 1, 1, tzinfo=UTC)
"""The time that replaces any earlier one: every store and every index can hold it."""

UniqueFor = Literal["waiting", "open"] | timedelta
"""
How long a key is held: until its job is first claimed, until the job ends, or for a period that
begins when the job is accepted. A job that failed or was cancelled holds no key any more.
"""
SCOPES: Final = ("waiting", "open")

_OPTION_LABELS = frozenset(
    {"priority", "owner", "correlation_id", "queue_name", "delay", "at", "unique_key", "unique_for"}
)
"""Labels that are options of a kiq. The accepted job does not have them as labels."""


@dataclass(frozen=True, slots=True)
class Unique:
    """
    The unique key of a contract's jobs, for a kiq that passes no key of its own.

        class IndexArgs(BaseModel):
            project: int
            force: bool = False

        INDEX = Contract("index", IndexArgs, int, unique=Unique(by=("project",)))
        broker.know(INDEX)

        first = await INDEX.kiq(IndexArgs(project=7), delay=timedelta(minutes=1))
        second = await INDEX.kiq(IndexArgs(project=7, force=True))
        assert second.deduplicated and second.task_id == first.task_id

    `by` names the arguments whose values are the key. If it is empty, all arguments are.
    """

    by: tuple[str, ...] = ()
    unique_for: UniqueFor = "open"

    def key_of(self, args: Mapping[str, Any]) -> str:
        """The key of these arguments (JSON values by name). A long key becomes a digest."""
        chosen = {name: args[name] for name in self.by or args}
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
        return text if len(text) <= MAX_KEY else f"sha256:{sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Hold:
    """How long a job holds its unique key. `period_s` begins when the job is accepted."""

    key: str
    scope: UniqueScope
    period_s: float | None = None


@dataclass(frozen=True, slots=True)
class KiqOptions:
    """
    The options of a kiq, as `Contract.kiq` documents them.

    In taskiq's message, and so in middlewares, they are labels. `job_id` is not one of them: it is
    the id of the message. `queue` None: the contract's queue.
    """

    priority: int = 0
    owner: str | None = None
    correlation_id: str | None = None
    job_id: str | None = None
    queue: str | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    unique_key: str | None = None
    unique_for: UniqueFor | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_labels(self) -> dict[str, Any]:
        """The options as labels. Raises `InvalidOption` for a value of a wrong type."""
        labels: dict[str, Any] = {
            "priority": self.priority,
            "owner": self.owner,
            "correlation_id": self.correlation_id,
            "queue_name": self.queue,
            "unique_key": self.unique_key,
        }
        if self.delay is not None:
            labels["delay"] = _seconds_text("delay", self.delay, "must be a timedelta")
        if self.at is not None:
            if not isinstance(self.at, datetime):
                raise InvalidOption("at", self.at, "must be a datetime with a time zone")
            labels["at"] = self.at.isoformat()
        if self.unique_for is not None:
            labels["unique_for"] = (
                self.unique_for
                if self.unique_for in SCOPES
                else _seconds_text("unique_for", self.unique_for, _a_scope_or("a timedelta"))
            )
        return {**self.labels, **{n: value for n, value in labels.items() if value is not None}}

    @classmethod
    def from_labels(cls, labels: Mapping[str, Any], job_id: str | None = None) -> KiqOptions:
        """
        The options in these labels. A label that is no option stays a label.

        Raises `InvalidOption`.
        """
        given = {name: value for name, value in labels.items() if value is not None}
        return cls(
            priority=_priority(given),
            owner=given.get("owner"),
            correlation_id=given.get("correlation_id"),
            job_id=job_id,
            queue=given.get("queue_name"),
            delay=_period(given, "delay", "must be a number of seconds"),
            at=_time(given),
            unique_key=given.get("unique_key"),
            unique_for=_unique_for(given),
            labels={
                name: str(value)
                for name, value in given.items()
                if name not in _OPTION_LABELS | STRIPPED_LABELS
            },
        )

    def due(self, now: datetime) -> NowPlus | datetime | None:
        """
        The time when the job is due, as the ledger takes it. None: at once. It may have passed.

        `now` is used only for the limit, because a time ten years ahead is a mistake. Raises
        `NaiveDatetime` and `InvalidOption`.
        """
        if self.at is not None and self.delay is not None:
            raise InvalidOption("at", self.at, "must not be given together with `delay`")
        if self.at is not None:
            if self.at.tzinfo is None:
                raise NaiveDatetime("at", self.at)
            if self.at > now + MAX_DELAY:
                raise InvalidOption("at", self.at, f"must be at most {MAX_DELAY.days} days ahead")
            return max(self.at, LONG_PAST)
        if self.delay is not None and not timedelta(0) <= self.delay <= MAX_DELAY:
            raise InvalidOption("delay", self.delay, f"must be from 0 to {MAX_DELAY.days} days")
        return NowPlus(self.delay.total_seconds()) if self.delay else None

    def hold(self, unique: Unique | None, args_json: str) -> Hold | None:
        """
        The unique key that the job holds: that of the kiq, or the one that `unique` of the contract
        makes from the arguments. None: the job is not unique. Raises `InvalidOption`.
        """
        key, unique_for = self.unique_key, self.unique_for
        if unique is not None:
            key = unique.key_of(json.loads(args_json)) if key is None else key
            unique_for = unique.unique_for if unique_for is None else unique_for
        if key is None:
            if unique_for is not None:
                raise InvalidOption("unique_for", unique_for, "needs a `unique_key`")
            return None
        if unique_for is None:
            return Hold(key, UniqueScope.OPEN)
        if not isinstance(unique_for, timedelta):
            if unique_for not in SCOPES:
                raise InvalidOption("unique_for", unique_for, _a_scope_or("a timedelta"))
            return Hold(key, UniqueScope(unique_for))
        if not timedelta(0) < unique_for <= MAX_DELAY:
            limits = f"must be more than 0, at most {MAX_DELAY.days} days"
            raise InvalidOption("unique_for", unique_for, limits)
        return Hold(key, UniqueScope.PERIOD, unique_for.total_seconds())


def _a_scope_or(other: str) -> str:
    return f"must be {other}, or one of {', '.join(SCOPES)}"


def _seconds_text(name: str, value: object, expected: str) -> str:
    if not isinstance(value, timedelta):
        raise InvalidOption(name, value, expected)
    return str(value.total_seconds())


def _priority(labels: Mapping[str, Any]) -> int:
    value = labels.get("priority", 0)
    try:
        return int(str(value))
    except ValueError:
        raise InvalidOption("priority", value, "must be a whole number") from None


def _period(labels: Mapping[str, Any], name: str, expected: str) -> timedelta | None:
    if name not in labels:
        return None
    try:
        return timedelta(seconds=float(labels[name]))
    except (TypeError, ValueError, OverflowError):
        raise InvalidOption(name, labels[name], expected) from None


def _time(labels: Mapping[str, Any]) -> datetime | None:
    if "at" not in labels:
        return None
    try:
        return datetime.fromisoformat(str(labels["at"]))
    except ValueError:
        raise InvalidOption("at", labels["at"], "must be a time in ISO 8601") from None


def _unique_for(labels: Mapping[str, Any]) -> UniqueFor | None:
    match labels.get("unique_for"):
        case "waiting":
            return "waiting"
        case "open":
            return "open"
        case _:
            return _period(labels, "unique_for", _a_scope_or("a number of seconds"))
