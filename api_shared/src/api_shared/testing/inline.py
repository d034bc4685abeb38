"""Jobs that run inline, where they are kiqed, through the steps of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from api_shared.broker import broker as general_broker
from api_shared.broker import ml_broker
from api_shared.cancellation import cancel_and_wait
from api_shared.client.bind.task import JobTask
from api_shared.client.contract import Contract
from api_shared.client.job_broker import JobBroker
from api_shared.client.runtime import Runtime
from api_shared.errors import ApiWorkersError, InvalidOption
from api_shared.job import Job, Status
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.protocol import JobFilter
from api_shared.ledger.transitions import publish_due
from api_shared.notifier.events import status_event
from api_shared.notifier.memory import MemoryNotifier
from api_shared.settings import Settings
from api_shared.testing.memory_broker import (
    SilentConsumer,
    SilentPublisher,
    default_settings,
    standing_on,
)
from api_shared.testing.thread_executor import ThreadExecutor
from api_shared.transport.consumer import Delivery
from api_shared.transport.message import ACCEPTED, decode, encode
from api_shared.transport.topology import topology_of
from api_shared.worker.maintenance.periodic_jobs import PeriodicJobs
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import Stop
from api_shared.worker.run.run_job import run_job
from api_shared.worker.run.worker_runtime import WorkerRuntime

MAX_ROUNDS = 100
"""How often a job may be retried or snoozed in place before `CannotRunInPlace` is raised."""
MAX_DEPTH = 20
"""How deep jobs may kiq jobs in place."""

StandIns = Mapping[Contract[Any, Any], Callable[..., Any]]

_depth: ContextVar[int] = ContextVar("in_place_depth", default=0)


class CannotRunInPlace(ApiWorkersError):
    """The test is set up wrongly, or its job would go on for ever. `task` is its task."""

    def __init__(self, task: str, problem: str) -> None:
        self.task = task
        super().__init__(f"{task!r} cannot run in place: {problem}")


@asynccontextmanager
async def running_in_place(
    *brokers: JobBroker, tasks: StandIns | None = None, settings: Settings | None = None
) -> AsyncIterator[Place]:
    """
    A block in which each kiq runs its job to the end before it returns, with a worker's own steps.

        async def greet(args: GreetArgs) -> str:
            return f"Hello, {args.name}"

        async with running_in_place(broker, tasks={GREET: greet}):
            job = await GREET.kiq(GreetArgs(name="Ada"))
            assert await job.result() == "Hello, Ada"

    A retry or a snooze follows at once, whatever its delay; a job that was kiqed for later waits
    for `Place.advance`. A failure shows in the handle (`JobFailed`), as in production, and not in
    the kiq. With no broker named, both are meant. `tasks` binds functions until the block ends, in
    place of those that other packages hold. The brokers are left as they were.
    """
    place = Place(brokers or (general_broker, ml_broker), settings or default_settings())
    with ExitStack() as stack:
        for each, runtime in place.runtimes:
            stack.enter_context(standing_on(each, runtime))
        stack.enter_context(_bound(tasks or {}, [each for each, _ in place.runtimes]))
        await place.declare()
        hearing = asyncio.create_task(place.hear_cancels())
        try:
            yield place
        finally:
            await place.close()
            await cancel_and_wait(hearing)


class Place:
    """
    Where jobs run in place, with its `ledger`, its `notifier` and its clock.

        async with running_in_place(broker) as place:
            job = await GREET.kiq(GreetArgs(name="Ada"), delay=timedelta(days=1))
            assert await job.status() == "scheduled"
            await place.advance(timedelta(days=1))
            assert await job.status() == "completed"
            assert (await place.ledger.get(job.task_id)).attempt == 0
    """

    def __init__(self, brokers: Sequence[JobBroker], settings: Settings) -> None:
        self.ledger = MemoryLedger(lambda: datetime.now(UTC) + self._ahead)
        self.notifier = MemoryNotifier()
        self._ahead = timedelta(0)
        self._claims = ClaimRegistry(
            self.ledger, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s
        )
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        runners = {each.name: _Runner(each, settings, self._claims, self) for each in brokers}
        self._runners = runners
        self.runtimes = [(runner.broker, runner.worker.runtime) for runner in runners.values()]

    async def declare(self) -> None:
        """Let the schedules of all tasks that have a function here tick from now on."""
        for runner in self._runners.values():
            await runner.periodic.declare()

    async def advance(self, by: timedelta) -> None:
        """
        Move the ledger's clock by `by`. Jobs and ticks that become due run, in the order of time.
        """
        until = self._now() + by
        await self.declare()
        while True:
            job, tick_at = await self._next_scheduled(until), await self._next_tick(until)
            if job is not None and (tick_at is None or (job.due_at or until) <= tick_at):
                self._move_on_to(job.due_at or until)
                await self.run(job)
            elif tick_at is not None:
                self._move_on_to(tick_at)
                for runner in self._runners.values():
                    await runner.periodic.tick_once()
            else:
                self._move_on_to(until)
                return

    async def run(self, job: Job) -> None:
        """Until the job ends. One that its kiq's caller no longer waits for goes on."""
        running = asyncio.create_task(self._follow(job))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        await asyncio.shield(running)

    async def hear_cancels(self) -> None:
        async for job_id in self.notifier.cancel_requests():
            self._claims.cancel(job_id)

    async def close(self) -> None:
        """Stop what still runs, as a worker's drain does."""
        self._closed = True
        self._claims.stop_all(Stop.DRAIN)
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _follow(self, job: Job) -> None:
        runner = self._runners[job.broker]
        _depth.set(_depth.get() + 1)
        if _depth.get() > MAX_DEPTH:
            raise CannotRunInPlace(job.task, f"jobs kiq jobs, {MAX_DEPTH} deep and no end")
        for _ in range(MAX_ROUNDS):
            if job.status is not Status.QUEUED:
                job = await runner.make_queued(job)
            job = await runner.run_once(job)
            if job.status.is_terminal or self._closed:
                return
        raise CannotRunInPlace(job.task, f"still {job.status} after {MAX_ROUNDS} rounds")

    async def _next_scheduled(self, until: datetime) -> Job | None:
        waiting = await self.ledger.find(JobFilter(status=Status.SCHEDULED), limit=10_000)
        due = [(job.due_at, job) for job in waiting if job.due_at and job.due_at <= until]
        return min(due, key=lambda pair: pair[0])[1] if due else None

    async def _next_tick(self, until: datetime) -> datetime | None:
        """The time of the next due schedule."""
        records = await self.ledger.schedules.find()
        due = [record.due_at for record in records if record.due_at and record.due_at <= until]
        return min(due, default=None)

    def _move_on_to(self, then: datetime) -> None:
        self._ahead += max(timedelta(0), then - self._now())

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


class _Runner(SilentPublisher):
    """A broker's worker in place: what it publishes, it runs."""

    def __init__(
        self, broker: JobBroker, settings: Settings, claims: ClaimRegistry, place: Place
    ) -> None:
        topology = topology_of(broker.name, settings)
        self.broker = broker
        self._run = place.run
        self.worker = WorkerRuntime.of(
            Runtime(settings, topology, place.ledger, place.notifier, self),
            worker_id="in place",
            consumer=SilentConsumer(),
            publisher=self,
            contracts=broker._contracts,
            executor=ThreadExecutor(max_result_bytes=settings.max_result_bytes),
            retire=_nothing,
            claims=claims,
        )
        rng = Random(0)  # noqa: S311 - jitter
        self.periodic = PeriodicJobs(self.worker.runtime, self._bound_contracts, rng)

    async def publish_job(self, job: Job) -> None:
        """Run it. Raises `CannotRunInPlace`."""
        self._task(job)
        await self._run(job)

    async def make_queued(self, job: Job) -> Job:
        """A job whose time has come, or is taken to have come, is queued."""
        runtime = self.worker.runtime
        due = publish_due(job, republish_after_s=runtime.settings.republish_after_s)
        queued = await runtime.ledger.change(due)
        if queued is None:
            return await self._read(job)
        runtime.notifier.publish(status_event(queued))
        return queued

    async def run_once(self, job: Job) -> Job:
        """One delivery, over the same bytes as RabbitMQ would carry; the job after it."""
        runtime = self.worker.runtime
        body = encode(job)
        delivery = Delivery(
            (0, 0, 0), body, runtime.topology.queue(job.queue), {ACCEPTED: 1}, 0, SilentConsumer()
        )
        message = decode(body, max_bytes=len(body))
        try:
            await run_job(self._task(job), delivery, message, None, self.worker)
        except Exception:
            after = await self._read(job)
            if after.status.is_terminal or after.status is Status.RETRYING:
                return after  # the ledger has what the task raised, and the handle raises it
            raise
        return await self._read(job)

    async def _read(self, job: Job) -> Job:
        return await self.worker.runtime.ledger.get(job.id) or job

    def _bound_contracts(self) -> list[Contract[Any, Any]]:
        return [task.contract for task in self.broker.tasks.values()]

    def _task(self, job: Job) -> JobTask[Any, Any]:
        task = self.broker.tasks.get(job.task)
        if task is None:
            raise CannotRunInPlace(
                job.task,
                "no function is bound to it here: import the module that binds one, or pass "
                "running_in_place(..., tasks={CONTRACT: function})",
            )
        return task


@contextmanager
def _bound(tasks: StandIns, brokers: Sequence[JobBroker]) -> Iterator[None]:
    by_name = {broker.name: broker for broker in brokers}
    with ExitStack() as stack:
        for contract, function in tasks.items():
            if contract.broker not in by_name:
                known = f"not among the brokers of this block: {', '.join(by_name)}"
                raise InvalidOption(f"{contract.name}.broker", contract.broker, known)
            broker = by_name[contract.broker]
            for registry in (broker.local_task_registry, broker._contracts):
                stack.callback(_put_back, registry, contract.name, registry.get(contract.name))
            broker.task(contract)(function)
        yield


def _nothing() -> None:
    """A test's process ends by itself."""


def _put_back(registry: dict[str, Any], name: str, before: Any) -> None:
    if before is None:
        registry.pop(name, None)
    else:
        registry[name] = before
