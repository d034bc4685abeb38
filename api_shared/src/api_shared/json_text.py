"""JSON text that is read back as it was written."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

T = TypeVar("T")

MAX_DEPTH = 64
"""How deeply arguments and results may be nested. The envelope of a message is one level."""

_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)
_ATOMS = frozenset(
    {str, int, bool, float, type(None), bytes, datetime, date, time, timedelta, Decimal, UUID}
)


class NotReadBack(ValueError):
    """`problem` says where the value that is read back differs, without the value."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def round_trip(value: T, text: str, read: Callable[[str], T]) -> str:
    """
    `text`, the JSON of `value`, after the proof that `read` makes the same value of it.

    Sets have no order, so their members are sorted: equal values have equal text in each process.
    Raises `NotReadBack`, and `ValidationError` as `read` does.
    """
    if is_too_deep(text):
        raise NotReadBack(f"nested deeper than {MAX_DEPTH}")
    try:
        back = read(text)
    except ValidationError:
        if lost := _lost_in(value):
            raise NotReadBack(lost) from None
        raise
    found = _Comparison()
    if (difference := found.difference(value, back)) is not None:
        path, problem = difference
        where = ".".join(reversed(path))
        raise NotReadBack(_lost_in(value) or (f"{where}: {problem}" if where else problem))
    if not found.has_sets:
        return text
    return json.dumps(_with_sorted_sets(value, json.loads(text)), separators=(",", ":"))


def is_too_deep(text: str) -> bool:
    """
    Whether JSON is nested too deeply: no worker would read the arguments, no listener the result.
    """
    if text.count("[") + text.count("{") < MAX_DEPTH:
        return False
    try:
        return deeper_than({"kwargs": json.loads(text)}, MAX_DEPTH)
    except RecursionError:
        return True


def deeper_than(value: Any, limit: int) -> bool:
    """Whether a JSON value is nested more than `limit` levels deep."""
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


Difference = tuple[list[str], str]
"""The names on the way to what differs, the innermost first, and the problem."""


class _Comparison:
    """One comparison of a value with what was read back, by type and by value."""

    def __init__(self) -> None:
        self.has_sets = False

    def difference(self, sent: Any, read: Any) -> Difference | None:
        kind = type(sent)
        if kind is not type(read):
            return None if _is_plain_form(sent, read) else ([], _as_other_type(sent, read))
        if kind in _ATOMS:
            return None if sent == read else _other_value()
        if isinstance(sent, BaseModel):
            own = self._of_items(sent.__dict__, read.__dict__)
            extra = (sent.__pydantic_extra__ or {}, read.__pydantic_extra__ or {})
            return own or self._of_items(*extra)
        if isinstance(sent, _SEQUENCES):
            return self._of_members(sent, read)
        if kind is dict or isinstance(sent, Mapping):  # to ask a dict's class takes its time
            return self._of_keys(sent, read) or self._of_items(sent, read)
        if isinstance(sent, _SETS):
            self.has_sets = True
            members = _are_equal(sent, read) and _types_of(sent) == _types_of(read)
            return None if members else _other_value()
        if is_dataclass(sent):
            names = [field.name for field in fields(sent)]
            return self._of_items(_attributes(sent, names), _attributes(read, names))
        return None if _are_equal(sent, read) else _other_value()

    def _of_items(self, sent: Mapping[Any, Any], read: Mapping[Any, Any]) -> Difference | None:
        for name, value in sent.items():
            if name not in read:
                return [str(name)[:100]], "it does not come back"
            other, kind = read[name], type(value)
            if kind in _ATOMS and kind is type(other) and value == other:
                continue
            if found := self.difference(value, other):
                found[0].append(str(name)[:100])
                return found
        return None if len(read) == len(sent) else _other_value()

    def _of_keys(self, sent: Mapping[Any, Any], read: Mapping[Any, Any]) -> Difference | None:
        for key, other in zip(sent, read, strict=False):
            if type(key) is not type(other) and not _is_plain_form(key, other):
                return [], f"a key: {_as_other_type(key, other)}"
        return None

    def _of_members(self, sent: Any, read: Any) -> Difference | None:
        types = _types_of(sent)
        if types <= _ATOMS and types == _types_of(read):  # fast, for the long lists
            return None if sent == read else _other_value()
        for number, (value, other) in enumerate(zip(sent, read, strict=False)):
            if found := self.difference(value, other):
                found[0].append(str(number))
                return found
        return None if len(sent) == len(read) else _other_value()


def _other_value() -> Difference:
    return [], "it comes back with another value"


def _as_other_type(sent: object, read: object) -> str:
    return f"{type(sent).__name__} comes back as {type(read).__name__}"


def _is_plain_form(sent: object, read: object) -> bool:
    """
    Whether `read` is the same value in its plain type: `numpy.float64` is read as `float`, and so
    is the `int` of a field `timeout_s: float = 10`.
    """
    if type(sent) is int and type(read) is float:
        return sent == read
    is_plain = isinstance(sent, type(read)) and not isinstance(sent, Enum | BaseModel)
    return is_plain and not is_dataclass(sent) and _are_equal(sent, read)


def _are_equal(sent: Any, read: Any) -> bool:
    """Objects that do not define equality are compared by what they hold."""
    identity: object = object.__eq__
    if type(sent).__eq__ is identity and hasattr(sent, "__dict__"):
        return bool(vars(sent) == vars(read))
    try:
        return bool(sent == read)
    except Exception:  # arrays and the like answer with more than one truth
        return False


def _types_of(values: Iterable[Any]) -> set[type]:
    return set(map(type, values))


def _attributes(value: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _with_sorted_sets(value: Any, node: Any) -> Any:
    """`node`, the JSON of `value`, with the members of each set in the order of their JSON."""
    if isinstance(node, list):
        if isinstance(value, _SETS) and len(value) == len(node):
            members = [_with_sorted_sets(*pair) for pair in zip(value, node, strict=True)]
            return sorted(members, key=lambda member: json.dumps(member, sort_keys=True))
        if isinstance(value, _SEQUENCES) and len(value) == len(node):
            return [_with_sorted_sets(*pair) for pair in zip(value, node, strict=True)]
    if isinstance(node, dict):
        if isinstance(value, Mapping) and len(value) == len(node):
            pairs = zip(value.values(), node.items(), strict=True)
            return {key: _with_sorted_sets(member, child) for member, (key, child) in pairs}
        names = value.__dict__ if hasattr(value, "__dict__") else {}
        aliases = _aliases_of(value)
        by_key = {aliases.get(name, name): member for name, member in names.items()}
        return {
            key: _with_sorted_sets(names.get(key, by_key.get(key)), child)
            for key, child in node.items()
        }
    return node


def _aliases_of(value: object) -> dict[str, str]:
    if not isinstance(value, BaseModel):
        return {}
    declared = type(value).model_fields.items()
    return {
        name: field.serialization_alias for name, field in declared if field.serialization_alias
    }


def _lost_in(value: Any) -> str | None:
    """Why a value with a secret, or with a number that JSON has not, cannot be read back."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} has no JSON form"
    if isinstance(value, (SecretStr, SecretBytes)):
        return "a secret is written as stars: pass a name that the task looks the secret up by"
    children: Iterable[Any] = ()
    if isinstance(value, BaseModel):
        children = [*value.__dict__.values(), *(value.__pydantic_extra__ or {}).values()]
    elif isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, (*_SEQUENCES, *_SETS)):
        children = value
    elif is_dataclass(value):
        children = _attributes(value, [field.name for field in fields(value)]).values()
    return next((lost for child in children if (lost := _lost_in(child))), None)
