"""The function of a task, and its call with the arguments of the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel
from taskiq_dependencies.dependency import Dependency

from api_shared.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class TaskFunction:
    """
    The function of a task. It takes the arguments by name, or the whole model in one parameter.

    `is_async` False: it runs in a process of its own.
    """

    function: Callable[..., Any]
    model_parameter: str | None
    parameters: tuple[str, ...]
    is_async: bool

    @classmethod
    def of(cls, function: Callable[..., Any], args: type[BaseModel]) -> TaskFunction:
        """The task function for these arguments. Raises `InvalidOption` if they do not fit."""
        hints = get_type_hints(function, include_extras=True)
        taken = {
            parameter.name: parameter.default is not parameter.empty
            for parameter in inspect.signature(function).parameters.values()
            if not is_injected(parameter, hints.get(parameter.name))
        }
        whole = [name for name in taken if hints.get(name) is args]
        expected = set(whole if len(whole) == 1 else args.model_fields)
        unfilled = {name for name, has_default in taken.items() if not has_default} - expected
        if unfilled or expected - set(taken):
            name = getattr(function, "__name__", str(function))
            named = ", ".join(args.model_fields) or "none"
            problem = f"must be one parameter of type {args.__name__}, or its fields: {named}"
            raise InvalidOption(f"parameters of {name}", ", ".join(taken), problem)
        is_async = inspect.iscoroutinefunction(function)
        fields = tuple(name for name in taken if name in expected)
        return cls(function, whole[0] if whole else None, fields, is_async)

    @property
    def positional(self) -> tuple[str, ...]:
        """The fields of the arguments, in the order of the function's parameters."""
        return () if self.model_parameter is not None else self.parameters

    def arguments(self, args: BaseModel) -> dict[str, Any]:
        if self.model_parameter is not None:
            return {self.model_parameter: args}
        return {name: getattr(args, name) for name in type(args).model_fields}


def is_injected(parameter: inspect.Parameter, hint: Any) -> bool:
    """Whether taskiq's dependencies fill this parameter."""
    if isinstance(parameter.default, Dependency):
        return True
    return any(isinstance(meta, Dependency) for meta in getattr(hint, "__metadata__", ()))
