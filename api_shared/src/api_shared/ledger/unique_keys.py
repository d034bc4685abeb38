"""
The unique key of a job: changes by which it is held and freed.

The write that ends a scope also frees the key, so that no lock can be left behind. A key that is
held for a period is freed by the next job that needs it (`release_lapsed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api_shared.job import Job, UniqueScope
from api_shared.ledger.change import NOW, Change, KeepWhere, NowPlus

AT_CLAIM: Final[Mapping[str, Any]] = {
    "unique_held": KeepWhere("unique_scope", frozenset({UniqueScope.OPEN, UniqueScope.PERIOD}))
}
"""The fields that a claim puts: a key that is held while its job waits is free from then on."""

AT_COMPLETION: Final[Mapping[str, Any]] = {
    "unique_held": KeepWhere("unique_scope", frozenset({UniqueScope.PERIOD}))
}
"""The fields that a completion puts. A failed or cancelled job frees its key in any scope."""


def expiry(retention_s: float) -> NowPlus:
    """
    When the record of an ended job expires. It is kept while it holds its key; that of a tick, as
    long as the tick could be fired again.
    """
    return NowPlus(retention_s, or_later=("unique_until", "keep_until"))


def held_again(job: Job) -> Mapping[str, Any]:
    """The fields that a change puts to give an ended job another round."""
    return {} if job.unique_key is None else {"unique_held": True}


def release_lapsed(job: Job) -> Change:
    """
    Free the key of a job whose period is over by the ledger's clock; otherwise change nothing.
    """
    guard = {"unique_held": True, "unique_until": NOW}
    return Change(job.id, guard, put={}, remove=("unique_held",))
