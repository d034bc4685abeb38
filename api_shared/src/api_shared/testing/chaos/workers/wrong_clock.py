"""
A worker whose time of day is wrong, by up to CHAOS_CLOCK_MOST_S seconds either way.

    CHAOS_CLOCK_MOST_S=30 taskiq worker api_shared.testing.chaos.workers.wrong_clock:broker

All modules that are imported after this one, which is all of a worker's own code, see the wrong
time. Each process has another error. Monotonic clocks are not changed.
"""

# ruff: noqa: E402 - the clock is set wrong before any other module reads it
from __future__ import annotations

import datetime as datetime_module
import os
import time as time_module
from typing import Any

MOST_S = int(os.environ["CHAOS_CLOCK_MOST_S"])
AHEAD_S = os.getpid() * 7 % (2 * MOST_S + 1) - MOST_S

_true_time = time_module.time
_true_datetime = datetime_module.datetime
_ahead = datetime_module.timedelta(seconds=AHEAD_S)


class _AnyDatetime(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _true_datetime)


class _WrongDatetime(_true_datetime, metaclass=_AnyDatetime):
    """Makes true datetimes, which every driver can encode, of the wrong time."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return _true_datetime(*args, **options)

    @classmethod
    def now(cls, tz: datetime_module.tzinfo | None = None) -> Any:
        return _true_datetime.now(tz) + _ahead

    @classmethod
    def utcnow(cls) -> Any:
        return _true_datetime.now(datetime_module.UTC).replace(tzinfo=None) + _ahead


time_module.time = lambda: _true_time() + AHEAD_S
datetime_module.datetime = _WrongDatetime  # type: ignore[misc]

from api_shared.testing.chaos.workers.worker import broker

__all__ = ["broker"]
