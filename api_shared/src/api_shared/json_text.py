"""JSON text that can be read back as it was written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import (
    SecretBytes,
    SecretStr,
)
from pydantic_core import from_json

if TYPE_CHECKING:
    pass


MAX_DEPTH = 64


def is_too_deep(text: str) -> bool:
    """
    Whether JSON is nested too deeply: no worker would read the arguments, no listener the result.
    """
    if text.count("[") + text.count("{") < MAX_DEPTH:
        return False
    try:
        return _deeper_than({"kwargs": json.loads(text)}, MAX_DEPTH)
    except RecursionError:
        return True


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


STARS = str(SecretStr("*"))


def _json_text(value: Any, in_python: Callable[[], Any]) -> str:
    """The JSON of a model. Raises `ValueError` if it does not say the same as the value."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    if "\\ud" in text:
        from_json(text)  # raises for a lone surrogate, which could not be read back
    if ("null" in text or STARS in text) and (lost := _lost_in(in_python())):
        raise ValueError(lost)
    return text


def _lost_in(value: Any) -> str | None:
    """The problem of a value that pydantic would write as null or as stars."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} has no JSON form"
    if isinstance(value, (SecretStr, SecretBytes)):
        return "a secret is written as stars: pass a name that the task looks the secret up by"
    children: Iterable[Any] = ()
    if isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        children = value
    return next((lost for child in children if (lost := _lost_in(child))), None)
