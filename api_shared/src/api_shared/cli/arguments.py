"""A job's arguments from the command line: `key=value` pairs, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api_shared.errors import InvalidOption

if TYPE_CHECKING:
    from pydantic import BaseModel

    from api_shared.client.contract import Contract


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """
    `a=1 b.c=text` is `{"a": 1, "b": {"c": "text"}}`.

    A value that is JSON (a number, true, null, a list, an object, a text in quotes) is read as
    JSON, any other is text. Raises `InvalidOption`.
    """
    return _tree(pairs, _value)


def parse_json(text: str) -> dict[str, Any]:
    """The object in `text`, in the file of `@FILE`, or on standard input (`-`)."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        parsed = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise InvalidOption("--json", text, f"{error.strerror} ({error.filename})") from None
    except (ValueError, RecursionError) as error:
        raise InvalidOption("--json", _short(text), f"must be JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidOption("--json", _short(text), "must be an object with the arguments")
    return parsed


def arguments_for(contract: Contract[Any, Any], pairs: Sequence[str]) -> BaseModel:
    """
    The pairs as the contract's arguments.

    If the contract has text, `user_id=42` is the text 42. Raises `InvalidArguments` and
    `InvalidOption`.
    """
    from pydantic import ValidationError

    parsed, texts = parse_pairs(pairs), _tree(pairs, str)
    try:
        contract.args.model_validate_json(json.dumps(parsed))
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            text = _at(texts, problem["loc"])
            if problem["type"] == "string_type" and isinstance(text, str):
                _put(parsed, [str(part) for part in problem["loc"]], text)
    model: BaseModel = contract.parse_json((), parsed)
    return model


def _tree(pairs: Sequence[str], value_of: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise InvalidOption("argument", pair, "must be key=value, or a.b=value for an object")
        if not _put(tree, keys, value_of(text), new=True):
            raise InvalidOption("argument", pair, f"{path} is given twice")
    return tree


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any, *, new: bool = False) -> bool:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            return False
    if new and keys[-1] in tree:
        return False
    tree[keys[-1]] = value
    return True


def _at(tree: Any, path: Sequence[int | str]) -> Any:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not in JSON")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
