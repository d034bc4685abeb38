"""The usage of a job (tokens, calls, images), as named whole numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from api_shared.errors import InvalidOption

MAX_NAMES: Final = 20
"""The most names of usage that one job has."""

MAX_AMOUNT: Final = 10**12
"""The most that one entry can add, so that sums stay whole numbers of 64 bits."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


def checked_usage(usage: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """`usage`, checked so that it can be added to `before`. Raises `InvalidOption`."""
    for name, amount in usage.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problem = "a name must be 1 to 50 of a-z, 0-9 and _, and begin with a letter"
            raise InvalidOption("usage", str(name)[:50], problem)
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= MAX_AMOUNT:
            shown = amount if isinstance(amount, (int, float)) else type(amount).__name__
            problem = f"must be a whole number from 0 to {MAX_AMOUNT:,}"
            raise InvalidOption(f"usage[{name}]", shown, problem)
    names = len(before.keys() | usage.keys())
    if names > MAX_NAMES:
        raise InvalidOption("usage", f"{names} names", f"a job can have at most {MAX_NAMES}")
    return dict(usage)


def added(usage: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums, by name."""
    return dict(usage) | {name: usage.get(name, 0) + amount for name, amount in more.items()}


def usage_text(usage: Mapping[str, int]) -> str:
    """`completion_tokens 5, prompt_tokens 1,200`"""
    return ", ".join(f"{name} {amount:,}" for name, amount in sorted(usage.items()))
