"""A schedule: its declaration in a contract, and its record in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from bson import ObjectId
from pydantic import BaseModel

from api_shared.errors import InvalidOption
from api_shared.schedules.cron import Cron, Every, Timing, timing_of

MAX_NAME = 200
LONGEST_CATCH_UP = timedelta(days=31)


class Missed(StrEnum):
    """
    The policy for ticks that fell due while no worker ran. Wire names: they never change.

    `skip`: none runs. `once`: only the last of them runs. `all`: each of them runs.
    """

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """
    The policy for a tick while the previous run has not ended (nor has one that waits for a retry).

    `allow`: both run. `skip`: the tick is left out. `wait`: it runs when the other has ended.
    Wire names: they never change.
    """

    ALLOW = "allow"
    SKIP = "skip"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    When a contract's task runs periodically, and with which arguments (None: their defaults).

        DAILY = Contract(
            "greet_daily",
            GreetArgs,
            str,
            schedule=Schedule(Cron("30 6 * * *", zone="Europe/Berlin"), GreetArgs(name="Ada")),
        )

        @broker.task(schedule=Schedule(Every(timedelta(minutes=10))))
        async def sweep() -> None: ...

    A missed tick that is older than `catch_up` does not run. `name` None is the contract's name; a
    ledger holds each name once.
    """

    when: Cron | Every
    args: BaseModel | None = field(default=None, hash=False)
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.SKIP
    catch_up: timedelta = timedelta(days=1)
    priority: int = 0
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "missed", _one_of(Missed, "missed", self.missed))
        object.__setattr__(self, "overlap", _one_of(Overlap, "overlap", self.overlap))
        if not timedelta(0) < self.catch_up <= LONGEST_CATCH_UP:
            problem = f"must be more than 0 and at most {LONGEST_CATCH_UP.days} days"
            raise InvalidOption("catch_up", str(self.catch_up), problem)
        if self.name is not None and not (
            0 < len(self.name) <= MAX_NAME and self.name.isprintable()
        ):
            problem = f"must have 1 to {MAX_NAME} printable characters"
            raise InvalidOption("name", self.name, problem)


@dataclass(frozen=True)
class Definition:
    """
    A schedule with all that its jobs need, so that a worker without the contract can fire it.

    Two releases that declare the same schedule have the same `digest`.
    """

    name: str
    broker: str
    task: str
    queue: str
    args_json: str
    cron: str | None = None
    every_s: int | None = None
    zone: str = "UTC"
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.SKIP
    catch_up_s: int = 86_400
    priority: int = 0
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def timing(self) -> Timing:
        return timing_of(self.cron, self.every_s, self.zone)

    @cached_property
    def digest(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def catch_up(self) -> timedelta:
        return timedelta(seconds=self.catch_up_s)


@dataclass(frozen=True, slots=True)
class Declaration:
    """The first and the last time that workers have declared a definition."""

    digest: str
    first_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """
    One document of the ledger. Times are the ledger's; `read_at` is its clock at the read.

    Ticks up to `cursor` are settled: fired or left out. `pending` are ticks that were decided and
    perhaps not carried out yet. `due_at` is when a worker must act; None: there is nothing to do.
    `is_waiting`: a tick was on time and waits for the end of the previous run. `declared` is empty
    for a schedule that was made by a call and stays until it is removed.
    """

    definition: Definition
    cursor: datetime
    due_at: datetime | None
    seq: int = 0
    paused: bool = False
    is_waiting: bool = False
    pending: tuple[datetime, ...] = ()
    last_tick_at: datetime | None = None
    last_job_id: str | None = None
    declared: tuple[Declaration, ...] = ()
    read_at: datetime | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def now(self) -> datetime:
        """The ledger's clock at the read, by which all is decided."""
        assert self.read_at is not None  # noqa: S101 - each read sets it
        return self.read_at

    @property
    def next_at(self) -> datetime | None:
        """The next tick that is not settled."""
        return None if self.paused else self.definition.timing.next_after(self.cursor)


def tick_id(name: str, planned: datetime) -> str:
    """The job id of a tick, the same for every worker, so that it is one job."""
    seconds = int(planned.timestamp()).to_bytes(4, "big")
    return str(ObjectId(seconds + hashlib.sha256(name.encode()).digest()[:8]))


def _one_of(kind: type[Missed] | type[Overlap], option: str, value: str) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        raise InvalidOption(option, value, f"must be one of {', '.join(kind)}") from None
