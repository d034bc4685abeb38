"""The ends of a job's process, as values."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Returned:
    """
    The function returned. `value_json` is the JSON text its process wrote.

    Validate it before use: the process may have parsed hostile input.
    """

    value_json: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """
    The function raised. Nothing is unpickled: an exception travels as text.

    `mro` holds the qualified names of the exception's classes, itself first, `object` left out.
    `args` and `fields` are the JSON forms of its `args` and attributes, empty if they have none.
    """

    error_type: str
    message: str
    traceback_text: str
    mro: tuple[str, ...]
    args: tuple[Any, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    def is_a(self, *types: type[BaseException]) -> bool:
        """Whether `except types` would have caught it; classes are compared by qualified name."""
        return any(qualified_name(type_) in self.mro for type_ in types)


@dataclass(frozen=True, slots=True)
class TimedOut:
    """
    A limit was reached.

    Soft: the function did not catch `SoftLimitReached`; `traceback_text` shows where it was.
    Hard: the process was killed.
    """

    limit_s: float
    soft: bool
    traceback_text: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`ProcessExecutor.close` stopped the job. Cancelling `run` raises CancelledError instead."""


@dataclass(frozen=True, slots=True)
class Killed:
    """
    The process ended without a report of its job: by a signal (a segfault, the kernel's OOM killer,
    a kill), by an exit of its own, or with the fork server.
    """

    signal: int | None = None
    exit_code: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.signal is not None:
            return f"killed by {signal_name(self.signal)}"
        return f"exited with code {self.exit_code} without a result"


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """An allocation failed under `memory_limit_mb`, the cap on the process's address space."""

    limit_mb: int
    message: str = ""


Outcome = Returned | Raised | TimedOut | Cancelled | Killed | OutOfMemory


def qualified_name(type_: type) -> str:
    return f"{type_.__module__}.{type_.__qualname__}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
