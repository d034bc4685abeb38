"""Declarations of tasks: what could not work raises where it is declared, and says why."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from api_shared.client.job_broker import JobBroker
from api_shared.errors import InvalidOption
from api_shared.testing import running_in_place


def positional_only(a: int, /, b: int) -> int:
    return a + b


async def spread(*values: int) -> int:
    return sum(values)


async def named(**values: int) -> int:
    return sum(values.values())


async def hidden(_secret: int) -> int:
    return _secret


def yields(count: int) -> Iterator[int]:
    yield from range(count)


async def yields_later(count: int) -> AsyncIterator[int]:
    yield count


async def takes_an_object(lock: threading_lock) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Its annotation names nothing."""


async def takes_a_function(of: Callable[[int], int], file: Opened) -> None:
    """Neither has a JSON form."""


class Opened:
    """Not a type that pydantic knows."""


def returns_an_object() -> Opened:
    return Opened()


class Adder:
    async def __call__(self, a: int) -> int:
        return a


async def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (positional_only, "parameter='a': must not be positional-only"),
        (spread, r"\*args and \*\*kwargs cannot be validated"),
        (named, r"\*args and \*\*kwargs cannot be validated"),
        (hidden, "must not begin with an underscore"),
        (yields, "must return its result, not yield"),
        (yields_later, "must return its result, not yield"),
        (takes_an_object, "threading_lock"),
        (takes_a_function, "has arguments that cannot be"),
        (Adder(), "must be a function"),
        (functools.partial(add, 1), "must be a function"),
        (Adder, "must be a function"),
        (returns_an_object, "must be a type that pydantic can write"),
    ],
)
def test_a_function_that_no_worker_could_call_is_refused(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(InvalidOption, match=problem):
        JobBroker("general").task(function)
    with pytest.raises(InvalidOption, match=problem):
        JobBroker("general").task("a_name")(function)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper that is no `async def`, as many libraries write them."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def model_words(
    model_extra: str, copy: int, json: str, schema: bool, model_config_: int = 1
) -> list[Any]:
    return [model_extra, copy, json, schema, model_config_]


async def test_names_that_pydantic_uses_itself_arrive() -> None:
    broker = JobBroker("general")
    task = broker.task("words")(model_words)
    async with running_in_place(broker):
        job = await task.kiq("extra", 2, json="{}", schema=True)
        assert await job.result(timeout=10) == ["extra", 2, "{}", True, 1]


async def test_a_wrapper_around_an_async_function_is_awaited() -> None:
    broker = JobBroker("general")
    task = broker.task("wrapped")(logged(add))
    async with running_in_place(broker):
        assert await (await task.kiq(1, b=2)).result(timeout=10) == 3
