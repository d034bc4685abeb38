"""
When a job holds its unique key: said in the very changes that begin and end it.

The key is free again by the same write that ends its scope, so that no lock can be left behind.
A key held for a period is freed by the next job that wants it (`release_lapsed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api_shared.job import Job, UniqueScope
from api_shared.ledger.change import NOW, Change, KeepWhere, NowPlus

AT_CLAIM: Final[Mapping[str, Any]] = {
    "unique_held": KeepWhere("unique_scope", frozenset({UniqueScope.OPEN, UniqueScope.PERIOD}))
}
"""What a claim puts: a key held while its job waits is free for good, whatever comes next."""

AT_COMPLETION: Final[Mapping[str, Any]] = {
    "unique_held": KeepWhere("unique_scope", frozenset({UniqueScope.PERIOD}))
}
"""What a completion puts. A job that failed or was cancelled frees its key in any scope."""


def expiry(retention_s: float) -> NowPlus:
    """
    When an ended job's record may go: it is kept while it holds its key, and the job of a tick as
    long as somebody could want to fire that tick again.
    """
    return NowPlus(retention_s, or_later=("unique_until", "keep_until"))


def held_again(job: Job) -> Mapping[str, Any]:
    """What a change puts that gives an ended job another round."""
    return {} if job.unique_key is None else {"unique_held": True}


def release_lapsed(job: Job) -> Change:
    """Free the key of a job whose period is over by the ledger's clock; else nothing is changed."""
    guard = {"unique_held": True, "unique_until": NOW}
    return Change(job.id, guard, put={}, remove=("unique_held",))
