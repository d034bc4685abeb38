"""A schedule as one declares it, and as the ledger keeps it."""

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
    What becomes of ticks that fell due while nobody was there. Wire names: they never change.

    `skip`: left out; `once`: one run for all of them, the last; `all`: each runs.
    """

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """
    What becomes of a tick while the run before has not ended (a retry that waits is no end).

    `allow`: both run; `skip`: the tick is left out; `wait`: it runs when the other has ended.
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
            wanted = f"more than 0, at most {LONGEST_CATCH_UP.days} days"
            raise InvalidOption("catch_up", str(self.catch_up), wanted)
        if self.name is not None and not (
            0 < len(self.name) <= MAX_NAME and self.name.isprintable()
        ):
            wanted = f"1 to {MAX_NAME} printable characters are wanted"
            raise InvalidOption("name", self.name, wanted)


@dataclass(frozen=True)
class Definition:
    """
    A schedule with all that its jobs need: a dispatcher that does not know the contract can fire
    it. Two releases that declare the same have the same `digest`.
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
    """Since when workers have declared a definition, and when one did so last."""

    digest: str
    first_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """
    One document of the ledger. Times are the ledger's; `read_at` is its clock at the read.

    Ticks up to `cursor` are settled: fired or left out. `pending` are those that were decided and
    perhaps not carried out yet. `due_at` is when somebody must look; None: nothing is to be done.
    `is_waiting`: a tick was on time and waits for the end of the run before. `declared` is empty
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
        """The ledger's clock at the read; whatever is decided, is decided by it."""
        assert self.read_at is not None  # noqa: S101 - by whoever reads a record
        return self.read_at

    @property
    def next_at(self) -> datetime | None:
        """The next tick that is not settled."""
        return None if self.paused else self.definition.timing.next_after(self.cursor)


def tick_id(name: str, planned: datetime) -> str:
    """The job id of a tick: whoever fires it, it is one job."""
    seconds = int(planned.timestamp()).to_bytes(4, "big")
    return str(ObjectId(seconds + hashlib.sha256(name.encode()).digest()[:8]))


def _one_of(kind: type[Missed] | type[Overlap], option: str, value: str) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        raise InvalidOption(option, value, f"one of {', '.join(kind)}") from None
