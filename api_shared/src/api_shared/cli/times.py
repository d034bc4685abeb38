"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime

STEPS = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"))


def now() -> datetime:
    return datetime.now(UTC)


def since(then: datetime | None, at: datetime) -> str:
    """`12 s ago`; `in 4 min` for what is to come; `-` for never."""
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


def clock(then: datetime) -> str:
    """In the time zone of whoever reads it."""
    return then.astimezone().strftime("%Y-%m-%d %H:%M:%S")
