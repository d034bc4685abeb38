"""
The ticks of a schedule: by a cron expression in a time zone, or by an interval.

All times are aware; ticks are in UTC, on whole seconds. Changes of the local clock are treated as
Debian's cron(8) treats them:

- An expression whose minute and hour are both fixed (neither begins with `*`) names times of day.
  A time that the clock skips ticks once, at the moment to which the clock jumps. A time that the
  clock shows twice ticks the first time.
- Any other expression (`*/15 * * * *`, `0 */2 * * *`) ticks whenever the clock shows a matching
  time: never for a time that it skips, and twice for a time that it shows twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from api_shared.errors import InvalidOption

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
LONGEST_INTERVAL = timedelta(days=366)
LAST_YEAR = 2100
"""No tick is later: its id holds the time in 32 bits."""

_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_SAMPLE = datetime(2026, 1, 1)


class Timing(Protocol):
    @property
    def cron(self) -> str | None: ...

    @property
    def every_s(self) -> int | None: ...

    @property
    def zone(self) -> str: ...

    def next_after(self, after: datetime) -> datetime | None:
        """The first tick later than `after`. None: there are no more ticks."""

    def last_between(self, after: datetime, until: datetime) -> datetime | None:
        """The last tick later than `after` and not later than `until`."""


@dataclass(frozen=True)
class Cron:
    """
    Five fields (minute, hour, day of month, month, day of week) as in crontab(5) of Debian, and
    also `L`, `LW` and `MON#1`. `zone` is a name of the IANA database, or an offset (`+05:30`).
    """

    expression: str
    zone: str = "UTC"
    _zone: tzinfo = field(init=False, repr=False, compare=False)
    _fixed: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = self.expression.split()
        if len(fields) != 5:
            problem = "must have five fields: minute, hour, day of month, month, day of week"
            raise InvalidOption("cron", self.expression, problem)
        try:
            next(CronSim(self.expression, _SAMPLE))
        except CronSimError as error:
            raise InvalidOption("cron", self.expression, str(error)) from None
        except StopIteration:
            raise InvalidOption(
                "cron", self.expression, "must match a day within 50 years"
            ) from None
        object.__setattr__(self, "_zone", _zone_named(self.zone))
        fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
        object.__setattr__(self, "_fixed", fixed)

    def __str__(self) -> str:
        return self.expression

    @property
    def cron(self) -> str:
        return self.expression

    @property
    def every_s(self) -> None:
        return None

    def next_after(self, after: datetime) -> datetime | None:
        second_time: datetime | None = None
        for clock in self._clock_times(after):
            first, second = self._moments(clock)
            if first is not None and first > after:
                return first if second_time is None else min(first, second_time)
            if second is not None and second > after and second_time is None:
                second_time = second
        return second_time

    def last_between(self, after: datetime, until: datetime) -> datetime | None:
        last = self.next_after(after)
        if last is None or last > until:
            return None
        end = until
        while end - last >= MINUTE:
            middle = last + (end - last) / 2
            later = self.next_after(middle)
            if later is not None and later <= until:
                last = later
            else:
                end = middle
        return last

    def _clock_times(self, after: datetime) -> Iterator[datetime]:
        """The local times of the ticks that may come after `after`, in order."""
        local = after.astimezone(self._zone)
        start = local.replace(tzinfo=None, fold=0)
        if not self._fixed:
            # In an hour that comes twice, times before the local time can still come.
            start -= max(timedelta(0), _offset(local) - _offset(local.replace(fold=1)))
        for clock in CronSim(self.expression, start):
            if clock.year >= LAST_YEAR:
                return
            yield clock

    def _moments(self, clock: datetime) -> tuple[datetime | None, datetime | None]:
        """The moments when the local clock shows this time first, and again."""
        first = self._moment(clock)
        if first is None:
            if not self._fixed:
                return None, None
            while first is None:
                clock += MINUTE
                first = self._moment(clock)
        if self._fixed:
            return first, None
        second = clock.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return first, second if second > first else None

    def _moment(self, clock: datetime) -> datetime | None:
        """None: the clock skips this time."""
        moment = clock.replace(tzinfo=self._zone).astimezone(UTC)
        shown = moment.astimezone(self._zone).replace(tzinfo=None, fold=0)
        return moment if shown == clock else None


@dataclass(frozen=True)
class Every:
    """A tick every `interval` (whole seconds), counted from 1970-01-01T00:00:00Z."""

    interval: timedelta

    def __post_init__(self) -> None:
        whole = self.interval.total_seconds().is_integer()
        if not whole or not SECOND <= self.interval <= LONGEST_INTERVAL:
            problem = f"must be whole seconds, from 1 s to {LONGEST_INTERVAL.days} days"
            raise InvalidOption("interval", str(self.interval), problem)

    def __str__(self) -> str:
        return f"every {self.interval}"

    @property
    def cron(self) -> None:
        return None

    @property
    def every_s(self) -> int:
        return int(self.interval.total_seconds())

    @property
    def zone(self) -> str:
        return "UTC"

    def next_after(self, after: datetime) -> datetime | None:
        return self._tick(int(after.timestamp() // self.every_s) + 1)

    def last_between(self, after: datetime, until: datetime) -> datetime | None:
        last = self._tick(int(until.timestamp() // self.every_s))
        return last if last > after else None

    def _tick(self, number: int) -> datetime:
        return datetime.fromtimestamp(number * self.every_s, UTC)


def timing_of(cron: str | None, every_s: int | None, zone: str) -> Timing:
    """Raises `InvalidOption`."""
    if cron is not None:
        return Cron(cron, zone)
    return Every(timedelta(seconds=every_s or 0))


def timing_from_taskiq(
    *, cron: str | None, cron_offset: str | timedelta | None, interval: int | timedelta | None
) -> Cron | Every:
    """From the fields of taskiq's schedules. Raises `InvalidOption`."""
    if cron is not None:
        if isinstance(cron_offset, timedelta):
            hours, minutes = divmod(abs(round(cron_offset.total_seconds() / 60)), 60)
            sign = "-" if cron_offset < timedelta(0) else "+"
            return Cron(cron, f"{sign}{hours:02}:{minutes:02}")
        return Cron(cron, cron_offset or "UTC")
    if interval is None:
        raise InvalidOption(
            "schedule", None, "must have cron= or interval=; for a single time use kiq(at=...)"
        )
    return Every(interval if isinstance(interval, timedelta) else timedelta(seconds=interval))


def _zone_named(name: str) -> tzinfo:
    if found := _OFFSET.fullmatch(name):
        sign, hours, minutes = found.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if offset < timedelta(days=1):
            return timezone(-offset if sign == "-" else offset)
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        problem = "must be a zone of the IANA database (Europe/Berlin), or an offset (+05:30)"
        raise InvalidOption("zone", name, problem) from None


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta(0)
