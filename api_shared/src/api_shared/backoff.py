"""Exponential backoff with jitter."""

from __future__ import annotations

from random import Random


def backoff_s(
    attempt: int, *, base_s: float = 60.0, cap_s: float = 3600.0, rng: Random | None = None
) -> float:
    """
    Seconds until the next attempt: doubling from `base_s`, ±25 % jitter, never over `cap_s`.

    `attempt` is 1 after the first failure. A `base_s` of 0 switches the wait off.
    """
    factor = (rng or Random()).uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret
    return min(cap_s, base_s * 2.0 ** min(attempt - 1, 60) * factor)
