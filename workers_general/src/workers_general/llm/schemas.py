"""
Validation of model output against the JSON Schemas of callers: neither is trusted.

A hostile schema can block the process that applies it: by a pattern that backtracks, a reference to
the network, references that double with each step, or depth. The validator's patterns take linear
time and it fetches nothing; the rest is limited here before the schema is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from workers_general.llm.errors import InvalidSchema
from workers_general.llm.protocol import JsonSchema

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 40
MAX_STEPS = 5_000
"""The limit of subschemas that apply to one value and its parts, with all references followed."""

MAX_CHAIN = 500
MAX_VALUE_DEPTH = 32
MAX_PROBLEMS = 5
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1024 * 1024, dfa_size_limit=1024 * 1024)

_DEPENDENT = frozenset({"dependentSchemas", "dependencies"})
_IN_PLACE = _DEPENDENT | {"allOf", "anyOf", "oneOf", "not", "if", "then", "else"}
_DATA = frozenset({"const", "enum", "default", "examples"})
_NAMED = _DEPENDENT | {"properties", "patternProperties", "$defs", "definitions"}


class Schema:
    """A schema that is safe to apply. Raises `InvalidSchema`."""

    def __init__(self, schema: JsonSchema) -> None:
        plain = _bounded(schema)
        _Steps(plain).check()
        try:
            self._validator = jsonschema_rs.validator_for(
                plain, pattern_options=_PATTERNS, offline=True, mask="the value"
            )
        except jsonschema_rs.ValidationError as error:
            path = "/".join(map(str, error.instance_path)) or "its root"
            raise InvalidSchema(f"it is not a JSON Schema, at {path[:200]}") from None
        except ValueError as error:
            raise InvalidSchema(str(error)[:200]) from None
        self.text = json.dumps(plain, ensure_ascii=False)
        self.json = plain

    def read(self, text: str) -> tuple[Any, tuple[str, ...]]:
        """
        The value of a model's output, and a line for each problem with it; lines contain no values.
        Anything around the JSON (a code fence, say) is a problem.
        """
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            return None, (f"it is nested deeper than {MAX_VALUE_DEPTH}",)
        except ValueError as error:
            where = getattr(error, "pos", None)
            return None, (
                "it is not JSON" + ("" if where is None else f", from character {where}"),
            )
        if _depth(value, MAX_VALUE_DEPTH) > MAX_VALUE_DEPTH:
            return None, (f"it is nested deeper than {MAX_VALUE_DEPTH}",)
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return None, ("a text has half of a surrogate pair (\\ud800 to \\udfff)",)
        except ValueError:
            return None, ("it has a number that is too large",)
        return value, self.problems_of(value)

    def problems_of(self, value: Any) -> tuple[str, ...]:
        lines = []
        for error in self._validator.iter_errors(value):
            path = "/".join(map(str, error.instance_path))
            lines.append(f"{path}: {error.message}"[:300] if path else error.message[:300])
            if len(lines) == MAX_PROBLEMS:
                break
        return tuple(lines)


class _Steps:
    """
    The number of subschemas that can apply to a value, by the depth of the value.

    A reference that leads back to itself without descending into the value would never end. One
    that descends (a tree) ends with the value, but must not double at each level.
    """

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, int], int] = {}
        self._open: set[tuple[int, int]] = set()

    def check(self) -> None:
        if self._of(self._root, MAX_VALUE_DEPTH) > MAX_STEPS:
            raise InvalidSchema(
                f"over {MAX_STEPS:,} subschemas would apply to a value: use fewer references"
            )

    def _of(self, schema: Any, levels: int) -> int:
        if not isinstance(schema, dict) or levels == 0:
            return 0
        at = (id(schema), levels)
        if at in self._open:
            raise InvalidSchema("a $ref leads back to itself without descending into the value")
        if len(self._open) > MAX_CHAIN:
            raise InvalidSchema(f"its subschemas are chained over more than {MAX_CHAIN} others")
        if at not in self._known:
            self._open.add(at)
            steps = 1
            for child, descends in self._children(schema):
                steps += self._of(child, levels - descends)
                if steps > MAX_STEPS:
                    break
            self._open.remove(at)
            self._known[at] = steps
        return self._known[at]

    def _children(self, schema: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
        """Subschemas that are applied with this one, and whether to a part of the value only."""
        for name, child in schema.items():
            if name in ("$ref", "$dynamicRef", "$recursiveRef"):
                yield self._target(child), False
            elif name in _DATA or name in ("$defs", "definitions"):
                continue
            elif isinstance(child, dict):
                for part in child.values() if name in _NAMED else (child,):
                    yield part, name not in _IN_PLACE
            elif isinstance(child, list):
                for part in child:
                    yield part, name not in _IN_PLACE

    def _target(self, reference: Any) -> Any:
        """The schema that a local reference names: `#` or `#/$defs/NAME`, a JSON pointer."""
        if not isinstance(reference, str) or not (reference == "#" or reference[:2] == "#/"):
            raise InvalidSchema("a $ref must be local: # or #/$defs/NAME")
        if "%" in reference:
            raise InvalidSchema("a $ref must be written without %: the validator decodes it")
        target: Any = self._root
        for name in reference.split("/")[1:]:
            key = name.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and key in target:
                target = target[key]
            elif isinstance(target, list) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            else:
                raise InvalidSchema(f"nothing is at $ref {reference[:100]!r}")
        return target


def _bounded(schema: JsonSchema) -> dict[str, Any]:
    """A copy in plain JSON values, of limited size, and without keywords that rename it."""
    if _depth(schema, MAX_SCHEMA_DEPTH) > MAX_SCHEMA_DEPTH:
        raise InvalidSchema(f"it is nested deeper than {MAX_SCHEMA_DEPTH}")
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidSchema("it is not JSON") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidSchema(f"it is {len(text):,} bytes, over the limit of {MAX_SCHEMA_BYTES:,}")
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise InvalidSchema("it must be a JSON object")
    if named := _renaming_keyword(plain):
        raise InvalidSchema(f"{named} is not supported: reference subschemas as #/$defs/NAME")
    return plain


def _renaming_keyword(schema: Any) -> str | None:
    """A keyword that gives a schema a name, which changes the meaning of its references."""
    children: Any = ()
    if isinstance(schema, dict):
        for keyword in ("$id", "$anchor", "$dynamicAnchor"):
            if isinstance(schema.get(keyword), str):
                return keyword
        children = schema.values()
    elif isinstance(schema, list):
        children = schema
    return next((name for child in children if (name := _renaming_keyword(child))), None)


def _depth(value: Any, limit: int) -> int:
    """How deep containers are nested; any number over `limit` if they are deeper than that."""
    depth, level = 0, [value]
    while level and depth <= limit:
        containers = [each for each in level if isinstance(each, (dict, list, tuple))]
        depth += bool(containers)
        level = [
            child
            for each in containers
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not containers:
            break
    return depth


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
