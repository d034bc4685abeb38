"""What a job has used up (tokens, calls, images), as named whole numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from api_shared.errors import InvalidOption

MAX_NAMES: Final = 20
"""How many names one job counts under."""

MAX_AMOUNT: Final = 10**12
"""The most that one entry adds; sums of many stay whole numbers of 64 bits."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


def checked_usage(usage: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """`usage` as it can be added to what was counted `before`; raises `InvalidOption`."""
    for name, amount in usage.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            wanted = "names of 1 to 50 of a-z, 0-9 and _ are wanted, a letter first"
            raise InvalidOption("usage", str(name)[:50], wanted)
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= MAX_AMOUNT:
            shown = amount if isinstance(amount, (int, float)) else type(amount).__name__
            wanted = f"a whole number from 0 to {MAX_AMOUNT:,} is wanted"
            raise InvalidOption(f"usage[{name}]", shown, wanted)
    names = len(before.keys() | usage.keys())
    if names > MAX_NAMES:
        raise InvalidOption("usage", f"{names} names", f"a job counts under at most {MAX_NAMES}")
    return dict(usage)


def added(usage: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums, by name."""
    return dict(usage) | {name: usage.get(name, 0) + amount for name, amount in more.items()}


def usage_text(usage: Mapping[str, int]) -> str:
    """`completion_tokens 5, prompt_tokens 1,200`"""
    return ", ".join(f"{name} {amount:,}" for name, amount in sorted(usage.items()))
