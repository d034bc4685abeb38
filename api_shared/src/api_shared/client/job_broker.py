"""The broker: a taskiq broker whose jobs cannot be lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar, ParamSpec, Protocol, Self, TypeVar, overload

import structlog
from pydantic import BaseModel
from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.abc.middleware import TaskiqMiddleware
from taskiq.message import TaskiqMessage
from taskiq.utils import maybe_awaitable
from taskiq_aio_pika import AioPikaBroker

from api_shared.client.abort_worker import abort_worker
from api_shared.client.bind.contract_from_signature import contract_from_signature
from api_shared.client.bind.middleware import GuardedMiddleware
from api_shared.client.bind.task import JobTask, TaskBroker
from api_shared.client.contract import Contract
from api_shared.client.follow.handle import JobHandle
from api_shared.client.follow.result_backend import JobResultBackend
from api_shared.client.formatter import JobFormatter, PreparedMessage
from api_shared.client.kiq import Accepted, accept, cancellation_told
from api_shared.client.options import KiqOptions
from api_shared.client.runtime import Runtime
from api_shared.client.started_brokers import add_started, not_started, remove_started
from api_shared.client.submission import message_of, submission_of
from api_shared.client.task_function import check_callable_by_a_worker
from api_shared.errors import InvalidOption, QueueMismatch, UnknownTask
from api_shared.job import new_job_id, parse_job_id
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.logs import configure_logging
from api_shared.notifier.redis.notifier import RedisNotifier
from api_shared.settings import InvalidSettings, Settings, load_settings
from api_shared.transport.connection import Connection
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import Topology, declare, topology_of

P = ParamSpec("P")
A = TypeVar("A", bound=BaseModel)
R = TypeVar("R")
T = TypeVar("T")

LIMITS = {
    "timeout": "hard_limit_s",
    "soft_timeout": "soft_limit_s",
    "queue_name": "queue",
    "memory_limit_mb": "memory_limit_mb",
    "max_retries": "max_retries",
    "backoff_s": "backoff_s",
    "backoff_cap_s": "backoff_cap_s",
    "permanent": "permanent",
    "on_failure": "on_failure",
    "unique": "unique",
    "schedule": "schedule",
}
"""Labels of `@broker.task` that are fields of the contract, with their names there."""


class Binder(Protocol[R]):
    """Turns a function that returns the contract's result into its task."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> JobTask[P, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[P, R]) -> JobTask[P, R]: ...


class Engine(Protocol):
    """The worker's side of a broker, which takes deliveries and runs their jobs."""

    async def start(self, broker: JobBroker, publisher: AmqpPublisher) -> None: ...

    def deliveries(self) -> AsyncGenerator[AckableMessage, None]: ...

    async def run(self, task: JobTask[Any, Any]) -> Any: ...

    async def stop(self) -> None: ...


class JobBroker(AioPikaBroker, TaskBroker):
    """
    The broker of one exchange and its queues. `name` is "general", "ml", or your own.

    Nothing is read or opened before `startup`, which reads the settings from the environment. A
    RabbitMQ that is down delays it by CONNECT_DEADLINE_S at most.
    """

    made: ClassVar[dict[str, JobBroker]] = {}
    """The last broker of each name that this process made, started or not."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.id_generator = new_job_id
        self.decorator_class = JobTask
        self.formatter = JobFormatter()
        self.engine: Engine | None = None
        self._contracts: dict[str, Contract[Any, Any]] = {}
        self._runtime: Runtime | None = None
        self._connection: Connection | None = None
        self._borrowed = False
        self.made[name] = self

    def know(self, *contracts: Contract[Any, Any]) -> Self:
        """Add contracts, so that their tasks can be kiqed by name without their functions."""
        for contract in contracts:
            self._contracts[contract.name] = self._checked(contract)
        return self

    def contract(self, name: str) -> Contract[Any, Any]:
        """The contract of this name. Raises `UnknownTask`."""
        if name not in self._contracts:
            raise UnknownTask(name, self._contracts)
        return self._contracts[name]

    @property
    def contracts(self) -> tuple[Contract[Any, Any], ...]:
        return tuple(self._contracts.values())

    @property
    def tasks(self) -> dict[str, JobTask[Any, Any]]:
        """The tasks of this process, which are contracts bound to a function."""
        return {n: t for n, t in self.get_all_tasks().items() if isinstance(t, JobTask)}

    @overload
    def task(self, task_name: Contract[Any, R], **labels: Any) -> Binder[R]: ...

    @overload
    def task(self, task_name: Callable[P, T], **labels: Any) -> JobTask[P, T]: ...

    @overload
    def task(
        self, task_name: str | None = None, **labels: Any
    ) -> Callable[[Callable[P, T]], JobTask[P, T]]: ...

    def task(self, task_name: Any = None, **labels: Any) -> Any:
        """
        Bind a contract (`@broker.task(CONTRACT)`), or derive one from the function's signature.

        `timeout`, `soft_timeout` (seconds), `max_retries`, `queue_name`, `backoff_s`,
        `backoff_cap_s`, `memory_limit_mb`, `permanent`, `on_failure`, `unique` and `schedule` (of
        this package, or taskiq's list of dicts) become fields of the contract. Other labels become
        labels of each job.
        """
        if callable(task_name) and not isinstance(task_name, Contract):
            return self.task()(task_name)

        def bind(function: Callable[P, T]) -> JobTask[P, T]:
            check_callable_by_a_worker(function)
            limits = {LIMITS[name]: value for name, value in labels.items() if name in LIMITS}
            others = {name: value for name, value in labels.items() if name not in LIMITS}
            if isinstance(task_name, Contract):
                if limits:
                    raise InvalidOption("task", sorted(limits), "must be set in the contract")
                contract = self._checked(task_name)
            else:
                name = task_name or f"{function.__module__}:{function.__name__}"
                contract = contract_from_signature(function, name, broker=self.name, **limits)
            bound = contract.bind(function)
            contract = replace(contract, positional=bound.positional)
            task = super(JobBroker, self).task(contract.name, **others)(function)
            assert isinstance(task, JobTask)  # noqa: S101 - by `decorator_class`
            task.bind(contract, bound)
            self._contracts[contract.name] = contract
            return task

        return bind

    def _checked(self, contract: Contract[Any, Any]) -> Contract[Any, Any]:
        if contract.broker != self.name:
            problem = f"must be {self.name!r}, the name of the broker that it is bound to"
            raise InvalidOption(f"{contract.name}.broker", contract.broker, problem)
        return contract

    async def enqueue(self, contract: Contract[A, R], args: A, options: KiqOptions) -> JobHandle[R]:
        """Enqueue a job for `Contract.kiq`. Raises as it does."""
        return await self._send(message_of(contract, args, options), contract)

    async def send(self, message: TaskiqMessage) -> JobHandle[Any]:
        """Enqueue a job for `task.kiq`. Raises as `Contract.kiq` does, and `UnknownTask`."""
        return await self._send(message, self.contract(message.task_name))

    async def kick(self, message: BrokerMessage) -> None:
        """Enqueue a job for taskiq, which has called the middlewares already."""
        if isinstance(message, PreparedMessage):
            sent, from_json = message.prepared, False
        else:
            sent, from_json = self.formatter.loads(message.message), True
        await self._accept(sent, self.contract(sent.task_name), from_json=from_json)

    async def _send(self, message: TaskiqMessage, contract: Contract[Any, R]) -> JobHandle[R]:
        for middleware in self.middlewares:
            message = await maybe_awaitable(middleware.pre_send(message))
        accepted = await self._accept(message, contract)
        with cancellation_told(accepted.job.id):
            for middleware in reversed(self.middlewares):
                await maybe_awaitable(middleware.post_send(message))
        handle = self.handle(accepted.job.id, contract)
        handle.deduplicated = accepted.deduplicated
        handle.other_arguments = accepted.other_arguments
        return handle

    async def _accept(
        self, message: TaskiqMessage, contract: Contract[Any, Any], *, from_json: bool = False
    ) -> Accepted:
        """
        Accept the job of a message. If another job holds the unique key, the message gets its id.
        """
        accepted = await accept(submission_of(message, contract, from_json=from_json), self.runtime)
        message.task_id = accepted.job.id
        return accepted

    def handle(self, job_id: str, contract: Contract[Any, R] | None = None) -> JobHandle[R]:
        """The handle of a job that exists. Raises `InvalidJobId`."""
        decode = None if contract is None else contract.decode_result
        return JobHandle(parse_job_id(job_id), self.runtime, self.result_backend, decode)

    @property
    def runtime(self) -> Runtime:
        """Raises `NotStarted`."""
        if self._runtime is None:
            raise not_started(self.name)
        return self._runtime

    async def startup(self) -> None:
        """
        Read the settings and open the connections. Servers may be down.

        Raises `InvalidSettings` and `QueueMismatch`.
        """
        if self._runtime is not None:
            return
        if self.is_worker_process and self.engine is None:
            abort_worker(
                [
                    f"broker {self.name!r} has no worker engine: start the worker from a module "
                    f"that calls `api_shared.worker.engine.attach(broker, tasks=...)`"
                ]
            )
        settings = self._load_settings()
        if not structlog.is_configured():
            configure_logging(settings)
        topology = topology_of(self.name, settings)
        self._connection = self._make_connection(settings, topology)
        publisher = AmqpPublisher(
            self._connection, topology, deadline_s=settings.publish_deadline_s
        )
        ledger, notifier = MongoLedger(settings), RedisNotifier(settings)
        await ledger.start()
        await notifier.start()
        await self.use(Runtime(settings, topology, ledger, notifier, publisher))
        self._borrowed = False
        try:
            await self._connection.start(wait_s=settings.connect_deadline_s)
        except QueueMismatch as error:
            if self.is_worker_process:
                abort_worker([str(error)])
            await self.shutdown()
            raise
        await AsyncBroker.startup(self)
        if self.is_worker_process and self.engine is not None:
            await self.engine.start(self, publisher)

    async def use(self, runtime: Runtime | None) -> None:
        """
        Use this runtime, for example one of a test. None: use none.

        It stays the caller's: `startup` does not replace it, and `shutdown` does not close it.
        """
        self._set_runtime(runtime, borrowed=runtime is not None)
        if runtime is not None:
            self.result_backend = JobResultBackend(
                runtime.settings, runtime.ledger, runtime.notifier
            )

    def _set_runtime(self, runtime: Runtime | None, *, borrowed: bool) -> None:
        """Set the runtime. `Contract.kiq` uses the last broker of its name that has one."""
        self._runtime, self._borrowed = runtime, borrowed
        if runtime is not None:
            add_started(self.name, self)
        else:
            remove_started(self.name, self)

    def forget(self) -> None:
        self._of_parent = self._runtime, self._connection  # what is collected is closed
        self._runtime = self._connection = None
        self._borrowed = False

    def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """The generator from which taskiq's receiver takes messages. Its end begins the drain."""
        if self.engine is None:
            raise RuntimeError(f"broker {self.name!r} has no worker engine")
        return self.engine.deliveries()

    async def run(self, task: JobTask[Any, Any]) -> Any:
        """Run a task in the engine. Raises `RuntimeError` outside of a worker."""
        if self.engine is None:
            raise RuntimeError(f"{task.task_name}: only a worker runs tasks")
        return await self.engine.run(task)

    async def shutdown(self) -> None:
        """Stop the worker's side, then close all connections."""
        if self.engine is not None and self.is_worker_process:
            await self.engine.stop()
        if self._runtime is None or self._borrowed:
            return
        await AsyncBroker.shutdown(self)
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        await self._runtime.notifier.close()
        await self._runtime.ledger.close()
        self._set_runtime(None, borrowed=False)

    def _load_settings(self) -> Settings:
        try:
            return load_settings()
        except InvalidSettings as error:
            if self.is_worker_process:
                abort_worker([str(error)])
            raise

    def _make_connection(self, settings: Settings, topology: Topology) -> Connection:
        return Connection(
            settings.amqp_url,
            name=f"{self.name}-publish",
            heartbeat_s=settings.rabbitmq_heartbeat_s,
            connect_deadline_s=settings.connect_deadline_s,
            on_open=lambda channel: declare(channel, topology),
        )

    def add_middlewares(self, *middlewares: TaskiqMiddleware) -> None:
        super().add_middlewares(*(GuardedMiddleware(middleware) for middleware in middlewares))

    def with_middlewares(self, *middlewares: TaskiqMiddleware) -> Self:
        self.add_middlewares(*middlewares)
        return self
