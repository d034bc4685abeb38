"""
A change of one job as data: its guard, the fields that it puts, and its entry in the history.

Both ledgers interpret the same changes, so that the meaning of a transition is written in one place
(`operations.py`, `transitions.py`). Times are symbols (`NOW`, `NowPlus`): only the ledger's clock
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
"""As a value: the ledger's time at the write. As a guard: the time of the field has come."""


HISTORY_LIMIT: Final = 50
"""How many entries of its history a job keeps: the latest ones."""


@dataclass(frozen=True, slots=True)
class NowPlus:
    """As a value: the ledger's time plus `seconds`, or the latest time in `or_later`, if later."""

    seconds: float
    or_later: tuple[str, ...] = ()

    @property
    def milliseconds(self) -> int:
        """The added milliseconds. MongoDB stores times to the millisecond, so both ledgers do."""
        return round(self.seconds * 1000)


@dataclass(frozen=True, slots=True)
class Plus:
    """As a value: the number of the field plus this one."""

    amount: int


@dataclass(frozen=True, slots=True)
class PlusEach:
    """
    As a value: the numbers of the field by name plus these. A name is 1 to 50 of a-z, 0-9 and _.
    """

    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class KeepWhere:
    """As a value: the field is kept if `field` is one of `values`, otherwise it is removed."""

    field: str
    values: frozenset[Any]


@dataclass(frozen=True, slots=True)
class Below:
    """As a guard: the field is less than `limit`."""

    limit: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """As a guard: the field is one of these values."""

    values: frozenset[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """
    If every field of `guard` matches, all of `put` and `remove` is applied at once.

    The fields are those of `Job`; `journal` in `put` adds its keys to the journal. If `note` is not
    None, the change is an entry in the history under `change_id`: a writer that lost the answer
    finds out by it whether the change was applied.
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
