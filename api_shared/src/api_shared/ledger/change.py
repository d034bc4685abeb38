"""
A change of one job as data: a guard, what it puts, and its line in the history.

Both ledgers interpret the same changes, so that what a transition means stands in one place
(`operations.py`, `transitions.py`). Times are words (`NOW`, `NowPlus`): only the ledger's clock
counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api_shared.job import Status


class _Now:
    def __repr__(self) -> str:
        return "NOW"


NOW: Final = _Now()
"""As a value: the ledger's clock at the write. As a guard: the field's time has come."""


HISTORY_LIMIT: Final = 50
"""How many lines of its history a job keeps: the last ones."""


@dataclass(frozen=True, slots=True)
class NowPlus:
    """As a value: the ledger's clock and so much; or the latest time in `or_later`, if later."""

    seconds: float
    or_later: tuple[str, ...] = ()

    @property
    def milliseconds(self) -> int:
        """What both ledgers add: MongoDB keeps times to the millisecond."""
        return round(self.seconds * 1000)


@dataclass(frozen=True, slots=True)
class Plus:
    """As a value: the field's own number and this one."""

    amount: int


@dataclass(frozen=True, slots=True)
class PlusEach:
    """As a value: the field's own numbers by name, and these; a name is 1 to 50 of a-z, 0-9, _."""

    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class KeepWhere:
    """As a value: the field's own where `field` is one of `values`; else the field is removed."""

    field: str
    values: frozenset[Any]


@dataclass(frozen=True, slots=True)
class Below:
    """As a guard: the field is less than `limit`."""

    limit: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """As a guard: the field is one of these."""

    values: frozenset[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """
    Applies only where every field of `guard` matches; then all of `put` and `remove` at once.

    Fields are those of `Job`; `journal` in `put` adds its keys to the journal. With `note` not
    None the change joins the history under `change_id`, which is how a writer that lost the answer
    finds out whether it was applied.
    """

    job_id: str
    guard: Mapping[str, Any]
    put: Mapping[str, Any]
    remove: tuple[str, ...] = ()
    note: str | None = None
    change_id: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def status(self) -> Status | None:
        return self.put.get("status")
