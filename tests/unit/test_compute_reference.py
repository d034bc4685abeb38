from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType

import pytest
from taskiq import InMemoryBroker

from api_shared.worker.job_process import NotComputable
from api_shared.worker.job_process.function_ref import reference_to, resolve

broker = InMemoryBroker()


def plain() -> None: ...


async def coroutine() -> None: ...


class Model:
    def bound(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_class(cls) -> None: ...


@broker.task
def renamed() -> None: ...


def replaced() -> None: ...


first_replaced = replaced


def replaced() -> None: ...  # type: ignore[no-redef]


def closure() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


of_main = FunctionType(plain.__code__, {}, "of_main")
of_main.__module__ = "__main__"


@pytest.mark.parametrize(
    "function", [plain, Model.static, Model.of_class, Model, renamed.original_func]
)
def test_a_reference_leads_back(function: Callable[..., object]) -> None:
    assert resolve(reference_to(function)) == function


def test_a_taskiq_task_means_the_function_within() -> None:
    assert resolve(reference_to(renamed)) is renamed.original_func
    assert reference_to(renamed).endswith(":renamed__taskiq_original")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "is a lambda"),
        (closure(), "inside a function"),
        (partial(plain), "is a partial"),
        (coroutine, "is a coroutine function"),
        (Model().bound, "leads to"),
        (first_replaced, "leads to"),
        (of_main, "__main__"),
        (Model(), "no module or name"),
    ],
)
def test_what_another_process_cannot_find_is_refused_with_a_remedy(
    function: Callable[..., object], reason: str
) -> None:
    with pytest.raises(NotComputable, match=reason) as caught:
        reference_to(function)
    assert caught.value.remedy in str(caught.value)
