"""The contract: a typed stub of a task, which a service kiqs and a worker binds to a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from api_shared.client.options import KiqOptions, Unique, UniqueFor
from api_shared.client.started_brokers import started_broker
from api_shared.client.task_function import TaskFunction
from api_shared.errors import ApiWorkersError, InvalidArguments, InvalidOption
from api_shared.json_text import NotReadBack, round_trip
from api_shared.schedules.schedule import Schedule

if TYPE_CHECKING:
    from api_shared.client.follow.handle import JobHandle
    from api_shared.settings import Settings


A = TypeVar("A", bound=BaseModel)
R = TypeVar("R")


class InvalidResult(ApiWorkersError):
    """The value that a task returned is not of the result type of its contract."""

    def __init__(self, task: str, problems: Sequence[str]) -> None:
        self.task = task
        self.problems = tuple(problems)
        super().__init__(f"the result of {task!r} does not validate: {'; '.join(problems)}")


@dataclass(frozen=True, slots=True)
class FailedJob:
    """The argument of an `on_failure` hook, which is called once when a job has failed for good."""

    job_id: str
    task: str
    reason: str
    message: str
    owner: str | None
    correlation_id: str | None
    args: Mapping[str, Any]


OnFailure = Callable[[FailedJob], Any]

Scheduled = Schedule | tuple[Schedule, ...] | Callable[["Settings"], Schedule | None]
"""One schedule, several, or a function of the worker's settings (None: no schedule)."""


@dataclass(frozen=True)
class Contract(Generic[A, R]):
    """
    The name, the arguments, the result and the limits of a job, on which both sides agree.

        class GreetArgs(BaseModel):
            name: str

        GREET = Contract("greet", GreetArgs, str, hard_limit_s=60, max_retries=5)

        @broker.task(GREET)
        async def greet(args: GreetArgs) -> str:
            return f"Hello, {args.name}"

    `args` is a pydantic model whose fields are the arguments by name. `result` is any type that
    pydantic can validate. Limits are in seconds; None means the setting of the same name
    (TASK_SOFT_TIME_LIMIT, TASK_TIME_LIMIT, TASK_MAX_RETRIES). `permanent` lists exceptions that
    fail the job at once; all others retry, waiting `backoff_s`, doubled each time up to
    `backoff_cap_s`, ±25 % (`backoff_s=0`: no wait). `queue` None is the broker's default queue.
    `unique` defines which jobs count as the same job (see `unique_key` of `kiq`).
    `schedule` makes the task run periodically, as long as a worker with this contract runs.
    """

    name: str
    args: type[A]
    result: type[R]
    broker: str = "general"
    queue: str | None = None
    soft_limit_s: float | None = None
    hard_limit_s: float | None = None
    memory_limit_mb: int | None = None
    max_retries: int | None = None
    backoff_s: float = 60.0
    backoff_cap_s: float = 3600.0
    permanent: tuple[type[BaseException], ...] = ()
    on_failure: OnFailure | None = None
    unique: Unique | None = None
    positional: tuple[str, ...] = ()
    schedule: Scheduled | None = None
    _result_adapter: TypeAdapter[R] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 200 or not self.name.isprintable():
            raise InvalidOption("name", self.name, "must be 1 to 200 printable characters")
        if self.soft_limit_s and self.hard_limit_s and self.soft_limit_s > self.hard_limit_s:
            raise InvalidOption("soft_limit_s", self.soft_limit_s, "must not be over hard_limit_s")
        if self.unique and (unknown := set(self.unique.by) - set(self.args.model_fields)):
            known = ", ".join(self.args.model_fields)
            raise InvalidOption("unique.by", sorted(unknown), f"must be arguments: {known}")
        try:
            object.__setattr__(self, "_result_adapter", TypeAdapter(self.result))
        except PydanticUserError as error:
            problem = f"must be a type that pydantic can write: {error}"
            raise InvalidOption(f"{self.name}.result", self.result, problem) from error
        if not callable(self.schedule):
            self._scheduled(self.schedule)

    def parse(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> A:
        """
        The model of the arguments, from the values that a caller passed.

        They are given by name, in the order of the function (`positional`), or as the model itself,
        which is then the only positional argument. Raises `InvalidArguments`.
        """
        if len(args) == 1 and not kwargs and isinstance(args[0], self.args):
            return args[0]
        with self._problems_as(InvalidArguments):
            return self.args.model_validate(
                self._by_name(args, kwargs), by_alias=True, by_name=True
            )

    def parse_json(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> A:
        """As `parse`, from JSON values: those of a message, or of a command line."""
        return self.decode_args(json.dumps(self._by_name(args, kwargs)))

    def decode_args(self, text: str) -> A:
        """The arguments from their JSON text. Raises `InvalidArguments`."""
        with self._problems_as(InvalidArguments):
            return self._read_args(text)

    def _read_args(self, text: str) -> A:
        return self.args.model_validate_json(text, by_alias=True, by_name=True)

    def _by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        by_name = dict(kwargs)
        if len(args) == 1 and not kwargs and not self.positional:
            if not isinstance(args[0], Mapping):
                problem = f"expected an object with the arguments, got {type(args[0]).__name__}"
                raise InvalidArguments(self.name, [problem])
            return dict(args[0])
        if len(args) > len(self.positional):
            problem = f"expected at most {len(self.positional)} positional, got {len(args)}"
            raise InvalidArguments(self.name, [problem])
        for name, value in zip(self.positional, args, strict=False):
            if name in by_name:
                raise InvalidArguments(self.name, [f"{name}: must not be given twice"])
            by_name[name] = value
        return by_name

    def schedules(self, settings: Settings) -> list[tuple[Schedule, A]]:
        """
        The schedules of this contract, each with its arguments.

        Raises `InvalidArguments` and `InvalidOption`.
        """
        chosen = self.schedule
        return self._scheduled(chosen(settings) if callable(chosen) else chosen)

    def _scheduled(
        self, schedules: Schedule | tuple[Schedule, ...] | None
    ) -> list[tuple[Schedule, A]]:
        each = (schedules,) if isinstance(schedules, Schedule) else schedules or ()
        names = [schedule.name or self.name for schedule in each]
        if len(set(names)) < len(names):
            raise InvalidOption(f"{self.name}.schedule", names, "must be a different name for each")
        return [
            (schedule, self.parse([] if schedule.args is None else [schedule.args], {}))
            for schedule in each
        ]

    def encode_args(self, args: A) -> str:
        """
        The arguments as JSON text in ASCII, from which a worker reads the same arguments.

        Raises `InvalidArguments`, which names the field that would not arrive as it is.
        """
        with self._problems_as(InvalidArguments):
            text = args.model_dump_json(round_trip=True, warnings="none", ensure_ascii=True)
            return round_trip(args, text, self._read_args)

    def encode_result(self, value: Any) -> str:
        """
        The result as JSON text in ASCII, from which `decode_result` reads the same result.

        Computed fields are part of the text, unless the model could not be read back with them.
        Raises `InvalidResult`.
        """
        adapter = self._result_adapter
        with self._problems_as(InvalidResult):
            checked = adapter.validate_python(value)
            try:
                return round_trip(checked, _dumped(adapter, checked), adapter.validate_json)
            except ValidationError:
                text = _dumped(adapter, checked, round_trip=True)
                return round_trip(checked, text, adapter.validate_json)

    def decode_result(self, text: str) -> R:
        """The result from its JSON text. Raises `InvalidResult`."""
        with self._problems_as(InvalidResult):
            return self._result_adapter.validate_json(text)

    @contextmanager
    def _problems_as(
        self, error_type: type[InvalidArguments] | type[InvalidResult]
    ) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, RecursionError) as error:
            raise error_type(self.name, problems_of(error)) from None

    async def kiq(
        self,
        args: A,
        *,
        priority: int = 0,
        owner: str | None = None,
        correlation_id: str | None = None,
        job_id: str | None = None,
        delay: timedelta | None = None,
        at: datetime | None = None,
        unique_key: str | None = None,
        unique_for: UniqueFor | None = None,
    ) -> JobHandle[R]:
        """
        Enqueue a job. Once this returns, the job is sure to reach a terminal status.

            job = await GREET.kiq(GreetArgs(name="Ada"))
            assert await job.result(timeout=60) == "Hello, Ada"

            later = await GREET.kiq(
                GreetArgs(name="Ada"),
                priority=5,
                owner="ada",
                correlation_id="import-7",
                delay=timedelta(minutes=10),
                unique_key="ada",
                unique_for="open",
            )
            assert await later.status() == "scheduled"

        `priority` is 0 to 10; a higher one runs sooner. With a `job_id` of your own (an ObjectId in
        hex) the call may be repeated, and it stays one job. The job runs at once, after `delay`, or
        `at` a time that has a zone. While another job of this contract holds the same `unique_key`,
        no new job is accepted: the handle is that of the first job, and its `deduplicated` and
        `other_arguments` say so. `unique_for` is how long the key is held: "waiting" (until a
        worker begins), "open" (until the job ends; the default), or a `timedelta` from the moment
        when the job was accepted.

        Raises `UsageError` and `ServerError`: then no job was kept. After `AcceptanceUnknown` one
        may have been; the same call with the error's `job_id` is safe.
        """
        options = KiqOptions(
            priority=priority, owner=owner, correlation_id=correlation_id, job_id=job_id,
            delay=delay, at=at, unique_key=unique_key, unique_for=unique_for,
        )  # fmt: skip
        handle: JobHandle[R] = await started_broker(self.broker).enqueue(self, args, options)
        return handle

    def bind(self, function: Callable[..., Any]) -> TaskFunction:
        """The function of a task, with its parameters for the arguments of this contract."""
        return TaskFunction.of(function, self.args)


def _dumped(adapter: TypeAdapter[Any], value: Any, *, round_trip: bool = False) -> str:
    dumped = adapter.dump_json(value, round_trip=round_trip, warnings="none", ensure_ascii=True)
    return dumped.decode()


def problems_of(error: Exception) -> list[str]:
    """A line for each problem. Values that do not validate may be secret or huge: none is shown."""
    if isinstance(error, NotReadBack):
        return [error.problem]
    if not isinstance(error, ValidationError):
        return [f"not JSON: {error}"[:300]]
    lines = []
    for problem in error.errors(include_url=False, include_input=False)[:20]:
        path = ".".join(str(part)[:100] for part in problem["loc"])
        lines.append(f"{path}: {problem['msg'][:300]}" if path else problem["msg"][:300])
    return lines
