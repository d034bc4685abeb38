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

    `is_async` False: it runs in a process of its own. A `functools.wraps` wrapper is as async as
    what it wraps.
    """

    function: Callable[..., Any]
    model_parameter: str | None
    parameters: tuple[str, ...]
    is_async: bool

    @classmethod
    def of(cls, function: Callable[..., Any], args: type[BaseModel]) -> TaskFunction:
        """The task function for these arguments. Raises `InvalidOption` if they do not fit."""
        check_callable_by_a_worker(function)
        hints = hints_of(function)
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
        is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        fields = tuple(name for name in taken if name in expected)
        return cls(function, whole[0] if whole else None, fields, is_async)

    @property
    def positional(self) -> tuple[str, ...]:
        """The fields of the arguments, in the order of the function's parameters."""
        return () if self.model_parameter is not None else self.parameters

    def arguments(self, args: BaseModel) -> dict[str, Any]:
        if self.model_parameter is not None:
            return {self.model_parameter: args}
        return {name: args.__dict__[name] for name in type(args).model_fields}  # `model_extra`, too


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function. Raises `InvalidOption` if one names nothing."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        problem = f"has an annotation that is not defined in its module: {error}"
        raise InvalidOption("task", function.__qualname__, problem) from error


def check_callable_by_a_worker(function: Callable[..., Any]) -> None:
    """Raises `InvalidOption` for a function that no worker could call or get a result of."""
    name = getattr(function, "__qualname__", repr(function))
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise InvalidOption("task", name, "must return its result, not yield: it is a generator")
    if not inspect.isroutine(function):
        raise InvalidOption("task", name, "must be a function, not an object that can be called")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            problem = f"must not be positional-only in {name}: arguments are passed by name"
            raise InvalidOption("parameter", parameter.name, problem)


def is_injected(parameter: inspect.Parameter, hint: Any) -> bool:
    """Whether taskiq's dependencies fill this parameter."""
    if isinstance(parameter.default, Dependency):
        return True
    return any(isinstance(meta, Dependency) for meta in getattr(hint, "__metadata__", ()))
