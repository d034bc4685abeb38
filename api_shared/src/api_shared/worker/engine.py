"""The engine, which makes a broker a worker under plain `taskiq worker`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog
from taskiq import AckableMessage

from api_shared.cancellation import cancel_and_wait
from api_shared.client.abort_worker import abort_worker
from api_shared.client.bind.task import JobTask
from api_shared.client.formatter import DeliveredBody, current_delivery
from api_shared.client.job_broker import Engine, JobBroker
from api_shared.errors import LedgerUnavailable, QueueMismatch
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.logs import redact_library_logs
from api_shared.transport.connection import Connection
from api_shared.transport.consumer import Consumer
from api_shared.transport.publisher import AmqpPublisher
from api_shared.transport.topology import declare
from api_shared.worker.intake import Intake
from api_shared.worker.job_process import (
    ProcessExecutor,
    SlotFolder,
    SlotFolderUnsafe,
    default_slot_folder,
)
from api_shared.worker.job_process.slot_gate import SlotGate
from api_shared.worker.maintenance.dispatcher import Dispatcher
from api_shared.worker.maintenance.periodic_jobs import PeriodicJobs
from api_shared.worker.process.background import background_tasks, keep_going, name_of
from api_shared.worker.process.drain import begin_release, outlast_leases, release_all
from api_shared.worker.process.preflight import ImportFailures, import_tasks, problems_of
from api_shared.worker.process.signals import follow_parent, install_signal_handlers, retire
from api_shared.worker.process.watchdog import Watchdog
from api_shared.worker.process.watchdog_ledger import WatchdogLedger
from api_shared.worker.run.run_job import run_job
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()


def attach(broker: JobBroker, *, tasks: Sequence[str]) -> None:
    """
    Make `broker` run jobs. A worker's main module calls this once, and names its task modules.

        mail = JobBroker("mail")
        attach(mail, tasks=["mail_worker.tasks"])  # taskiq worker mail_worker.main:mail

    Where a module cannot be imported, the worker refuses to start and names it.
    """
    failures = ImportFailures()
    failures.listen()
    broker.engine = WorkerEngine(import_tasks(tasks), failures)


@dataclass(slots=True)
class _Parts:
    """The parts of a worker between `start` and `stop`."""

    intake: Intake
    consumer: Consumer
    gate: SlotGate
    connection: Connection
    worker: WorkerRuntime
    watchdog: Watchdog
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    fast_shutdown: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class WorkerEngine(Engine):
    """Takes deliveries, hands each to taskiq's receiver, runs it when the receiver calls back."""

    def __init__(self, problems: Sequence[str], failures: ImportFailures) -> None:
        self._problems = list(problems)
        self._failures = failures
        self._parts: _Parts | None = None
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    async def start(self, broker: JobBroker, publisher: AmqpPublisher) -> None:
        """Start without waiting for a server. A wrong setup ends this process."""
        runtime = broker.runtime
        settings = runtime.settings
        follow_parent()
        redact_library_logs()
        if problems := self._problems_of(broker):
            abort_worker(problems)
        queues = runtime.topology.select(settings.worker_queues)
        consumer = Consumer(settings, queues)
        try:
            slots = SlotFolder(default_slot_folder(), settings.ml_worker_count)
        except (SlotFolderUnsafe, OSError) as error:
            abort_worker([str(error)])
        contracts = {contract.name: contract for contract in broker.contracts}
        worker = WorkerRuntime.of(
            runtime,
            worker_id=self.worker_id,
            consumer=consumer,
            publisher=publisher,
            contracts=contracts,
            executor=ProcessExecutor(
                preload=self._preload(broker), max_result_bytes=settings.max_result_bytes
            ),
            retire=retire,
        )
        claims = worker.claims

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
            WatchdogLedger(worker, broker.tasks, lambda: MongoLedger(settings)),
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            limit_s=settings.task_time_limit,
        )
        parts = _Parts(
            Intake(consumer, gate, broker.tasks, worker),
            consumer,
            gate,
            connection,
            worker,
            watchdog,
        )
        self._parts = parts
        install_signal_handlers(parts.stopping.set, parts.fast_shutdown.set)
        jitter = Random()  # noqa: S311
        dispatcher = Dispatcher(
            runtime, publisher, worker.dead_letters, jitter, lambda: claims.tokens
        )
        periodic = PeriodicJobs(runtime, lambda: broker.contracts, jitter)
        preloads = bool(self._preload(broker))
        for background_task in (
            claims.keep,
            watchdog.beat,
            dispatcher.run,
            periodic.run,
            *background_tasks(worker, consumer, connection, preloads=preloads),
        ):
            name = name_of(background_task)
            parts.tasks.append(asyncio.create_task(keep_going(background_task), name=name))
        watchdog.start()
        consumer.start()
        try:
            await connection.start(wait_s=settings.connect_deadline_s)
        except QueueMismatch as error:
            abort_worker([str(error)])
        log.info("worker.started", worker=self.worker_id, queues=[q.name for q in queues])

    async def stop(self) -> None:
        """
        The last step of a drain: release the remaining jobs, close all, and remove this worker.
        """
        parts, self._parts = self._parts, None
        if parts is None:
            return
        await release_all(parts.worker.claims)
        parts.watchdog.stop()
        await cancel_and_wait(*parts.tasks)
        await parts.worker.executor.close()
        await parts.connection.close()
        try:
            async with asyncio.timeout(2):
                await parts.worker.ledger.remove_worker(self.worker_id)
        except (LedgerUnavailable, TimeoutError) as error:
            log.debug("worker.not_removed", error=str(error))
        log.info("worker.stopped", worker=self.worker_id)

    async def deliveries(self) -> AsyncGenerator[AckableMessage, None]:
        """
        The deliveries that taskiq's receiver runs, one for each free slot.

        Closing this generator begins a stop: deliveries that were not started are requeued, and the
        drain begins.
        """
        parts = self._running
        try:
            while not parts.stopping.is_set():
                delivery, message, slot = await parts.intake.next()
                body = DeliveredBody.of(delivery, message, slot)
                yield AckableMessage.model_construct(data=body, ack=_acked_by_run_job)
        finally:
            await self._begin_drain(parts)

    async def run(self, task: JobTask[Any, Any]) -> Any:
        """Run the job of this asyncio task. Raises what the task raised."""
        body = current_delivery.get()
        return await run_job(task, body.delivery, body.job_message, body.slot, self._running.worker)

    async def _begin_drain(self, parts: _Parts) -> None:
        parts.stopping.set()
        await parts.gate.close()
        await parts.consumer.close()
        drain_s = parts.worker.settings.drain_s
        log.info("worker.draining", running=len(parts.worker.claims), drain_s=drain_s)
        parts.tasks.append(asyncio.create_task(self._end_drain(parts, drain_s)))

    async def _end_drain(self, parts: _Parts, drain_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await parts.fast_shutdown.wait()
        begin_release(parts.worker.claims)
        await outlast_leases(parts.worker.claims, lease_s=parts.worker.settings.lease_s)
        await parts.worker.ledger.give_up()

    def _problems_of(self, broker: JobBroker) -> list[str]:
        failed = [
            f"module {module!r} cannot be imported (its traceback is above): fix it or leave it out"
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


def _acked_by_run_job() -> None:
    """Nothing is left to ack: `run_job` acked the delivery when it claimed the job."""
