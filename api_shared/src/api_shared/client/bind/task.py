"""A task: a contract bound to a function, as taskiq's task and kicker."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, ParamSpec, Self, TypeVar, overload
from weakref import WeakKeyDictionary

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask
from taskiq.kicker import AsyncKicker
from taskiq.message import TaskiqMessage

from api_shared.client.contract import Contract
from api_shared.client.follow.handle import JobHandle
from api_shared.client.task_function import TaskFunction

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


_bound: WeakKeyDictionary[Callable[..., Any], dict[str, Contract[Any, Any]]] = WeakKeyDictionary()
"""The contracts that each function is bound to, by the name of the task."""


def contract_of(function: Callable[..., Any], task: str) -> Contract[Any, Any]:
    """The contract that a function is bound to as this task, in this process."""
    return _bound[function][task]


class TaskBroker(AsyncBroker):
    """The methods of a broker that its tasks call."""

    @abstractmethod
    async def send(self, message: TaskiqMessage) -> JobHandle[Any]:
        """Enqueue the job of a message. Raises as `Contract.kiq` does."""

    @abstractmethod
    async def run(self, task: JobTask[Any, Any]) -> Any:
        """Run the task for the message of this asyncio task."""


class JobKicker(AsyncKicker[P, T]):
    """Taskiq's kicker. Its `kiq` returns a `JobHandle` and raises errors unchanged."""

    broker: TaskBroker

    @classmethod
    def _prepare_arg(cls, arg: Any) -> Any:
        """The argument as it is: the contract encodes it, and taskiq would dump a model in it."""
        return arg

    def with_labels(self, **labels: str | float) -> Self:
        super().with_labels(**labels)
        return self

    def with_task_id(self, task_id: str | None) -> Self:
        super().with_task_id(task_id)
        return self

    @overload
    async def kiq(
        self: JobKicker[P, CoroutineType[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...

    @overload
    async def kiq(
        self: JobKicker[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...

    @overload
    async def kiq(self: JobKicker[P, R], *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]: ...

    async def kiq(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return await self.broker.send(self._prepare_message(*args, **kwargs))


class JobTask(AsyncTaskiqDecoratedTask[P, T]):
    """
    The task that `@broker.task` returns. A call of it calls the function itself, as in a unit test.

    `original_func` is what taskiq's receiver runs. Here that is the worker's engine, which claims
    the job before it resolves the dependencies of the function and calls it.
    """

    broker: TaskBroker
    contract: Contract[Any, Any]
    bound: TaskFunction

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.function = self.original_func
        self.original_func = self._run  # type: ignore[assignment]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.function(*args, **kwargs)

    @overload
    async def kiq(
        self: JobTask[P, CoroutineType[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...

    @overload
    async def kiq(
        self: JobTask[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...

    @overload
    async def kiq(self: JobTask[P, R], *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]: ...

    async def kiq(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Enqueue a job with these arguments. Raises as `Contract.kiq` does."""
        return await self.kicker().kiq(*args, **kwargs)

    def kicker(self) -> JobKicker[P, T]:
        return JobKicker(self.task_name, self.broker, dict(self.labels), self.return_type)

    def bind(self, contract: Contract[Any, Any], bound: TaskFunction) -> None:
        """Make this the task of a contract."""
        self.contract, self.bound = contract, bound
        _bound.setdefault(self.function, {})[contract.name] = contract

    async def _run(self, /, *_: Any, **__: Any) -> Any:
        """Run by the engine. Positional-only, because a message may name an argument `self`."""
        return await self.broker.run(self)
