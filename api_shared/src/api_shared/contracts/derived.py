"""A contract derived from a function's signature: a Taskiq user is at home."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from pydantic import ConfigDict, create_model

from api_shared.contracts.binding import is_injected
from api_shared.contracts.contract import Contract
from api_shared.errors import InvalidOption


def contract_of(function: Callable[..., Any], name: str, **limits: Any) -> Contract[Any, Any]:
    """
    A contract derived from a function's signature: what `@broker.task` without one makes.

    Parameters that taskiq injects are left out; one without annotation takes any JSON value.
    """
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            problem = "a task names its arguments: *args and **kwargs cannot be validated"
            raise InvalidOption(name, str(parameter), problem)
        if is_injected(parameter, hints.get(parameter.name)):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    model = create_model(f"{name} arguments", __config__=config, **fields)
    result = hints.get("return", Any)
    return Contract(name, model, result, positional=tuple(fields), **limits)
