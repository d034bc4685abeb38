"""When a job is to run: `at` a time, or after a `delay`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from api_shared.errors import InvalidOption, NaiveDatetime
from api_shared.ledger.change import NowPlus

MAX_DELAY = timedelta(days=3660)
LONG_PAST = datetime(2000, 1, 1, tzinfo=UTC)
"""As good as any earlier time, and one that every store and every index can hold."""


def when(
    at: datetime | None, delay: timedelta | None, *, now: datetime
) -> NowPlus | datetime | None:
    """
    The moment in the ledger's words; None: neither was given. A time that has passed is at once.

    `now` is nobody's clock but a measure for the limit: ten years ahead is a mistake. Raises
    `NaiveDatetime` and `InvalidOption`.
    """
    if at is not None and delay is not None:
        raise InvalidOption("at", at, "either `at` or `delay`, not both")
    if at is not None:
        if at.tzinfo is None:
            raise NaiveDatetime("at", at)
        if at > now + MAX_DELAY:
            raise InvalidOption("at", at, f"at most {MAX_DELAY.days} days ahead")
        return max(at, LONG_PAST)
    if delay is not None and not timedelta(0) <= delay <= MAX_DELAY:
        raise InvalidOption("delay", delay, f"from 0 to {MAX_DELAY.days} days")
    return None if delay is None else NowPlus(delay.total_seconds())
