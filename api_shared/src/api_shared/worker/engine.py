"""The engine: what makes a broker a worker under plain `taskiq worker`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog
from taskiq import AckableMessage

from api_shared.client.abort_worker import abort_worker
from api_shared.client.formatter import DeliveredBody, current_delivery
from api_shared.client.job_broker import JobBroker
from api_shared.client.task import JobTask
from api_shared.errors import LedgerUnavailable, QueueMismatch
from api_shared.job import JobError, Reason, Status
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.ledger.protocol import WorkerInfo
from api_shared.ledger.transitions import fail_queued
from api_shared.logs import redact_library_logs
from api_shared.notifier.events import status_event
from api_shared.settings import MOST_ARGUMENTS_BYTES
from api_shared.transport.connection import Connection
from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.errors import being_cancelled
from api_shared.transport.message import ACCEPTED, JobMessage, Unreadable, decode
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import declare
from api_shared.worker.job_process import (
    ProcessExecutor,
    ServerNotStarted,
    Slot,
    SlotFolder,
    SlotFolderUnsafe,
    default_slot_folder,
)
from api_shared.worker.job_process.slot_gate import SlotGate
from api_shared.worker.maintenance.dead_letters import DeadLetters
from api_shared.worker.maintenance.dispatcher import Dispatcher
from api_shared.worker.maintenance.periodic_jobs import PeriodicJobs
from api_shared.worker.process.drain import begin_release, outlast_leases, release_all
from api_shared.worker.process.preflight import ImportFailures, import_tasks, problems_of
from api_shared.worker.process.signals import follow_parent, install_signal_handlers, retire
from api_shared.worker.process.watchdog import Watchdog
from api_shared.worker.process.watchdog_ledger import WatchdogLedger
from api_shared.worker.run.claim import LEDGER_PAUSE_S
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.isolation import Isolation
from api_shared.worker.run.run_job import run_job
from api_shared.worker.run.stuck_tasks import StuckTasks
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()

MESSAGE_OVERHEAD_BYTES = 128 * 1024


def attach(broker: JobBroker, *, tasks: Sequence[str]) -> None:
    """
    Make `broker` run jobs: a worker's main module calls this once, naming its task modules.

    A module that does not import is remembered; the worker says so at start and refuses.
    """
    failures = ImportFailures()
    failures.listen()
    broker.engine = WorkerEngine(import_tasks(tasks), failures)


@dataclass(slots=True)
class _Parts:
    """What lives from `start` to `stop`."""

    broker: JobBroker
    consumer: Consumer
    gate: SlotGate
    connection: Connection
    place: WorkerRuntime
    keepers: list[asyncio.Task[None]]
    watchdog: Watchdog
    stopping: asyncio.Event
    fast_shutdown: asyncio.Event


class WorkerEngine:
    """Takes deliveries, hands each to taskiq's receiver, runs it when the receiver calls back."""

    def __init__(self, problems: Sequence[str], failures: ImportFailures) -> None:
        self._problems = list(problems)
        self._failures = failures
        self._parts: _Parts | None = None
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    # Start and stop.

    async def start(self, broker: JobBroker, publisher: AmqpPublisher) -> None:
        """Refuses (and ends this process) when it is set up wrongly; waits for no server."""
        runtime = broker.runtime
        settings = runtime.settings
        follow_parent()
        redact_library_logs()
        if problems := self._problems_of(broker):
            abort_worker(problems)
        queues = runtime.topology.wanted(settings.worker_queues)
        consumer = Consumer(settings, queues)
        try:
            slots = SlotFolder(default_slot_folder(), settings.ml_worker_count)
        except (SlotFolderUnsafe, OSError) as error:
            abort_worker([str(error)])
        compute = ProcessExecutor(
            preload=self._preload(broker), max_result_bytes=settings.max_result_bytes
        )
        contracts = {contract.name: contract for contract in broker.contracts}
        dead_letters = DeadLetters(
            publisher, runtime.topology, runtime.ledger, contracts, retention_s=settings.retention_s
        )
        claims = ClaimRegistry(
            runtime.ledger, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s
        )
        place = WorkerRuntime(
            self.worker_id, runtime, consumer, claims, dead_letters, compute,
            Isolation(), StuckTasks(retire),
        )  # fmt: skip

        async def on_open(channel: Any) -> None:
            await declare(channel, runtime.topology)
            await consumer.use(channel)

        connection = Connection(
            settings.amqp_url,
            name=f"{broker.name}-consume",
            heartbeat_s=settings.rabbitmq_heartbeat_s,
            connect_deadline_s=settings.connect_deadline_s,
            on_open=on_open,
        )
        gate = SlotGate(slots, consumer)
        watchdog = Watchdog(
            claims,
            WatchdogLedger(place, broker.tasks, lambda: MongoLedger(settings)),
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            limit_s=settings.task_time_limit,
        )
        stopping, fast_shutdown = asyncio.Event(), asyncio.Event()
        parts = _Parts(
            broker, consumer, gate, connection, place, [], watchdog, stopping, fast_shutdown
        )
        self._parts = parts
        install_signal_handlers(parts.stopping.set, parts.fast_shutdown.set)
        jitter = Random()  # noqa: S311
        dispatcher = Dispatcher(runtime, publisher, dead_letters, jitter, lambda: claims.tokens)
        ticker = PeriodicJobs(runtime, lambda: broker.contracts, jitter)
        keepers = (
            claims.keep,
            watchdog.beat,
            dispatcher.run,
            ticker.run,
            self._prepare_ledger,
            self._warm_up,
            self._report,
            self._hear_cancels,
            self._watch_links,
        )
        for keeper in keepers:
            task = asyncio.create_task(_kept_going(keeper), name=keeper.__qualname__)
            parts.keepers.append(task)
        watchdog.start()
        consumer.start()
        try:
            await connection.start(wait_s=settings.connect_deadline_s)
        except QueueMismatch as error:
            abort_worker([str(error)])
        log.info("worker.started", worker=self.worker_id, queues=[q.name for q in queues])

    async def stop(self) -> None:
        """The last step of a drain: hand on what taskiq waits for no longer, and sign off."""
        parts, self._parts = self._parts, None
        if parts is None:
            return
        await release_all(parts.place.claims)
        parts.watchdog.stop()
        for keeper in parts.keepers:
            keeper.cancel()
        await asyncio.gather(*parts.keepers, return_exceptions=True)
        await parts.place.compute.close()
        await parts.connection.close()
        try:
            async with asyncio.timeout(2):
                await parts.place.runtime.ledger.remove_worker(self.worker_id)
        except (LedgerUnavailable, TimeoutError) as error:
            log.debug("worker.not_removed", error=str(error))
        log.info("worker.stopped", worker=self.worker_id)

    # Deliveries in, jobs out.

    async def deliveries(self) -> AsyncGenerator[AckableMessage, None]:
        """
        What taskiq's receiver asks for whenever it has a free slot.

        Closing it is how a stop begins: it gives back what was not started and starts the clock of
        the drain.
        """
        parts = self._running
        try:
            while not parts.stopping.is_set():
                delivery, wire, slot = await self._next(parts)
                body = DeliveredBody.of(delivery, wire, slot)
                yield AckableMessage.model_construct(data=body, ack=_acked_by_run_job)
        finally:
            await self._begin_drain(parts)

    async def run(self, task: JobTask[Any, Any]) -> Any:
        """The job of this asyncio task. Raises what the task raised."""
        body = current_delivery.get()
        return await run_job(task, body.delivery, body.wire, body.slot, self._running.place)

    async def _next(self, parts: _Parts) -> tuple[Delivery, JobMessage, Slot | None]:
        """The next delivery that is a job of ours and may start now."""
        while True:
            taken = await self._either(parts)
            if not isinstance(taken, Delivery):
                return taken
            if taken.unreadable is not None:
                detail = f"its properties cannot be decoded: {taken.unreadable}"
                await parts.place.bury(taken, Reason.UNREADABLE, detail)
                continue
            try:
                wire = decode(taken.body, max_bytes=self._size_limit(taken, parts))
            except Unreadable as error:
                await parts.place.bury(taken, error.reason, str(error))
                continue
            task = parts.broker.tasks.get(wire.task)
            if task is None:
                await self._bury_unknown(taken, wire, parts)
                continue
            if task.bound.is_async:
                return taken, wire, None
            slot = parts.gate.slot_now()
            if slot is not None:
                return taken, wire, slot
            parts.gate.wait(taken, wire)

    def _size_limit(self, delivery: Delivery, parts: _Parts) -> int:
        """What a kiq accepted is read here, whatever the kiqing service's own limit was."""
        limit = parts.place.runtime.settings.max_arguments_bytes
        if delivery.headers.get(ACCEPTED):
            limit = MOST_ARGUMENTS_BYTES
        return limit + MESSAGE_OVERHEAD_BYTES

    async def _either(self, parts: _Parts) -> Delivery | tuple[Delivery, JobMessage, Slot]:
        """A fresh delivery, or one whose slot has become free."""
        if parts.gate.idle:
            return await parts.consumer.next()
        fresh = asyncio.ensure_future(parts.consumer.next())
        served = asyncio.ensure_future(parts.gate.ready.get())
        try:
            await asyncio.wait({fresh, served}, return_when=asyncio.FIRST_COMPLETED)
            if not served.done():
                return fresh.result()
            if fresh.done():
                parts.consumer.put_back(fresh.result())
            return served.result()
        except asyncio.CancelledError:  # a stop: what came at this very moment is given back too
            if fresh.done():
                parts.consumer.put_back(fresh.result())
            if served.done():
                parts.gate.ready.put_nowait(served.result())
            raise
        finally:
            for waiter in (fresh, served):
                waiter.cancel()

    async def _bury_unknown(self, delivery: Delivery, wire: JobMessage, parts: _Parts) -> None:
        """A message for a task that this worker has not: a dead letter, and its job has failed."""
        known = ", ".join(sorted(parts.broker.tasks)) or "none"
        detail = f"no task named {wire.task!r} in this worker; known: {known}"
        error = JobError(Reason.UNKNOWN_TASK, "UnknownTask", detail)
        ledger = parts.place.runtime.ledger
        try:
            job = await ledger.get(wire.job_id)
            if job is not None and job.status is Status.QUEUED and job.task == wire.task:
                failed = await ledger.change(fail_queued(job, error))
                if failed is not None:  # due now: the dispatcher buries it
                    parts.place.runtime.notifier.publish(status_event(failed))
                    delivery.ack()
                    return
        except LedgerUnavailable:
            delivery.requeue()
            parts.consumer.pause(LEDGER_PAUSE_S)
            return
        await parts.place.bury(delivery, Reason.UNKNOWN_TASK, detail)

    async def _begin_drain(self, parts: _Parts) -> None:
        parts.stopping.set()
        await parts.gate.close()
        await parts.consumer.close()
        drain_s = parts.place.runtime.settings.drain_s
        log.info("worker.draining", running=len(parts.place.claims), drain_s=drain_s)
        parts.keepers.append(asyncio.create_task(self._end_drain(parts, drain_s)))

    async def _end_drain(self, parts: _Parts, drain_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await parts.fast_shutdown.wait()
        runtime = parts.place.runtime
        begin_release(parts.place.claims)
        await outlast_leases(parts.place.claims, lease_s=runtime.settings.lease_s)
        await runtime.ledger.give_up()

    # Keepers.

    async def _prepare_ledger(self) -> None:
        runtime = self._running.place.runtime
        while True:
            try:
                await runtime.ledger.prepare()
                return
            except LedgerUnavailable as error:
                log.warning("worker.waits_for_ledger", error=str(error))
                self._running.consumer.pause(LEDGER_PAUSE_S)
                await asyncio.sleep(LEDGER_PAUSE_S)

    async def _warm_up(self) -> None:
        """Start the fork server before its first job; one that does not start says so then."""
        if self._preload(self._running.broker):
            try:
                await self._running.place.compute.start()
            except ServerNotStarted as error:
                log.warning("compute.not_started", error=str(error))

    async def _report(self) -> None:
        """Say that this worker is alive, and what it holds."""
        parts = self._running
        runtime = parts.place.runtime
        while True:
            info = WorkerInfo(
                id=self.worker_id,
                broker=parts.broker.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                queues=tuple(queue.name for queue in parts.consumer.queues),
                running=len(parts.place.claims),
                buffered=dict(parts.consumer.buffered),
            )
            try:
                await runtime.ledger.report_worker(info)
            except LedgerUnavailable as error:
                log.debug("worker.not_reported", error=str(error))
            await asyncio.sleep(runtime.settings.heartbeat_s)

    async def _hear_cancels(self) -> None:
        parts = self._running
        async for job_id in parts.place.runtime.notifier.cancel_requests():
            parts.place.claims.cancel(job_id)

    async def _watch_links(self) -> None:
        """A queue with other arguments is noticed late if RabbitMQ was down at start."""
        parts = self._running
        while True:
            try:
                await parts.connection.wait_open()
            except QueueMismatch as error:
                lease_s = parts.place.runtime.settings.lease_s
                await release_all(parts.place.claims, within_s=lease_s)
                abort_worker([str(error)])
            await asyncio.sleep(1)

    # Checks.

    def _problems_of(self, broker: JobBroker) -> list[str]:
        failed = [
            f"module {module!r} does not import (its traceback is above): mend it or leave it out"
            for module in self._failures.modules
        ]
        return [*self._problems, *failed, *problems_of(broker, broker.runtime.settings)]

    def _preload(self, broker: JobBroker) -> tuple[str, ...]:
        """The modules of synchronous tasks: the fork server imports them once, for all jobs."""
        return tuple(
            {
                task.function.__module__
                for task in broker.tasks.values()
                if not task.bound.is_async and task.function.__module__ != "__main__"
            }
        )

    @property
    def _running(self) -> _Parts:
        if self._parts is None:
            raise RuntimeError("the worker is not started")
        return self._parts


async def _kept_going(keeper: Callable[[], Awaitable[None]]) -> None:
    """A keeper that fails is a bug and said to be one; heartbeats go on all the same."""
    while True:
        try:
            return await keeper()
        except asyncio.CancelledError:  # some drivers end what waits for them so
            if being_cancelled():
                raise
            log.exception("keeper.failed", keeper=keeper.__qualname__)
        except Exception:
            log.exception("keeper.failed", keeper=keeper.__qualname__)
        await asyncio.sleep(1)


def _acked_by_run_job() -> None:
    """Taskiq acks at its end; `run_job` did, when the job was claimed."""
