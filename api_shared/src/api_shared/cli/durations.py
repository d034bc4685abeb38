"""Times and durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from api_shared.errors import InvalidOption

DURATION = re.compile(
    r"(?:(?P<days>[\d.]+)d)? ?(?:(?P<hours>[\d.]+)h)? ?"
    r"(?:(?P<minutes>[\d.]+)m)? ?(?:(?P<seconds>[\d.]+)s?)?"
)
CENTURY = timedelta(days=36_500)
STEPS = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"))


def now() -> datetime:
    return datetime.now(UTC)


def since(then: datetime | None, at: datetime) -> str:
    """`12 s ago`; `in 4 min` for the future; `-` for never."""
    if then is None:
        return "-"
    seconds = (at - then).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{lasted(seconds)} ago" if seconds > 0 else f"in {lasted(-seconds)}"


def lasted(seconds: float) -> str:
    """A duration in its largest unit, with one digit more where it is short."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    for size, unit in STEPS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def between(start: datetime | None, end: datetime | None) -> str:
    return "-" if start is None or end is None else lasted((end - start).total_seconds())


def parse_duration(option: str, text: str) -> timedelta:
    """`90`, `90s`, `10m`, `1h30m`, `2d`, up to a century. Raises `InvalidOption`."""
    found = DURATION.fullmatch(text.strip())
    parts = {} if found is None else {k: v for k, v in found.groupdict().items() if v is not None}
    try:
        duration = timedelta(**{unit: float(amount) for unit, amount in parts.items()})
        if parts and duration <= CENTURY:
            return duration
    except (ValueError, OverflowError):
        pass
    raise InvalidOption(option, text, "must be seconds, or a duration such as 10m, 1h30m, 2d")


def parse_time(option: str, text: str) -> datetime:
    """ISO 8601 with its zone. Raises `InvalidOption`."""
    expected = "must be a time in ISO 8601 with its zone: 2030-01-31T08:00:00+01:00"
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):  # too long ago or too far ahead for UTC
        pass
    raise InvalidOption(option, text, expected)


def until(then: datetime, at: datetime) -> str:
    """`until 14:03:07 (in 12 s)`, with the date where it is another day."""
    local = then.astimezone()
    moment = f"{local:%H:%M:%S}" if local.date() == at.astimezone().date() else clock(then)
    return f"until {moment} ({since(then, at)})"


def clock(then: datetime) -> str:
    """A time in the zone of this machine."""
    return then.astimezone().strftime("%Y-%m-%d %H:%M:%S")
