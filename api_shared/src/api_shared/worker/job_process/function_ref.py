"""References to functions as text, "module:qualname", which another process can resolve."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from api_shared.worker.job_process.errors import NotComputable

REMEDY = "pass a plain function defined at the top level of an importable module"


def reference_to(function: Callable[..., object]) -> str:
    """
    The reference to a function, or to the function in a Taskiq task, under the name of the task.

    Raises NotComputable for functions that a name does not identify (lambdas, closures, partials,
    bound methods, functions of `__main__`), and for coroutine functions, which need an event loop.
    """
    function = getattr(function, "original_func", function)
    if isinstance(function, partial):
        raise NotComputable(
            f"{function!r} is a partial", "pass its function, and its arguments as args and kwargs"
        )
    if inspect.iscoroutinefunction(function):
        raise NotComputable(
            f"{function!r} is a coroutine function", "await it, or pass a synchronous function"
        )
    module_name = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not module_name or not qualname:
        raise NotComputable(f"{function!r} has no module or name", REMEDY)
    if module_name == "__main__":
        raise NotComputable(
            f"{qualname} is defined in __main__, which another process cannot import",
            "move it into a module of its own",
        )
    if "<lambda>" in qualname:
        raise NotComputable(f"{module_name}:{qualname} is a lambda", REMEDY)
    if "<locals>" in qualname:
        raise NotComputable(f"{module_name}:{qualname} is defined inside a function", REMEDY)
    try:
        found = _walk(sys.modules[module_name], qualname)
    except (KeyError, AttributeError):
        raise NotComputable(f"nothing is found under {module_name}:{qualname}", REMEDY) from None
    if found != function:
        raise NotComputable(
            f"{module_name}:{qualname} leads to {found!r}, not to {function!r}", REMEDY
        )
    return f"{module_name}:{qualname}"


def resolve(reference: str) -> Callable[..., Any]:
    """The function; imports its module. Raises ImportError or AttributeError."""
    module_name, _, qualname = reference.partition(":")
    function: Callable[..., Any] = _walk(importlib.import_module(module_name), qualname)
    return function


def _walk(root: object, qualname: str) -> Any:
    return reduce(getattr, qualname.split("."), root)
