"""Background tasks of a worker process, each restarted if it fails."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from api_shared.client.abort_worker import abort_worker
from api_shared.errors import LedgerUnavailable, QueueMismatch
from api_shared.ledger.protocol import WorkerInfo
from api_shared.transport.connection import Connection
from api_shared.transport.consumer import Consumer
from api_shared.transport.errors import being_cancelled
from api_shared.worker.job_process import ServerNotStarted
from api_shared.worker.process.drain import release_all
from api_shared.worker.run.claim import LEDGER_PAUSE_S
from api_shared.worker.run.worker_runtime import WorkerRuntime

log = structlog.get_logger()

BackgroundTask = Callable[[], Awaitable[None]]


def background_tasks(
    worker: WorkerRuntime, consumer: Consumer, connection: Connection, *, preloads: bool
) -> tuple[BackgroundTask, ...]:
    """The tasks of every worker besides heartbeat, watchdog and maintenance."""
    return (
        partial(prepare_ledger, worker),
        *((partial(start_fork_server, worker),) if preloads else ()),
        partial(report_worker, worker, consumer),
        partial(receive_cancels, worker),
        partial(watch_connection, worker, connection),
    )


async def prepare_ledger(worker: WorkerRuntime) -> None:
    """Create the ledger's indexes; no messages are consumed before."""
    while True:
        try:
            await worker.ledger.prepare()
            return
        except LedgerUnavailable as error:
            log.warning("worker.waits_for_ledger", error=str(error))
            worker.consumer.pause(LEDGER_PAUSE_S)
            await asyncio.sleep(LEDGER_PAUSE_S)


async def start_fork_server(worker: WorkerRuntime) -> None:
    """Start the server before its first job. If it does not start, the first job reports why."""
    try:
        await worker.executor.start()
    except ServerNotStarted as error:
        log.warning("compute.not_started", error=str(error))


async def report_worker(worker: WorkerRuntime, consumer: Consumer) -> None:
    """Report that this worker is alive, and what it holds."""
    while True:
        info = WorkerInfo(
            id=worker.worker_id,
            broker=worker.runtime.topology.broker,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=tuple(queue.name for queue in consumer.queues),
            running=len(worker.claims),
            buffered=dict(consumer.buffered),
        )
        try:
            await worker.ledger.report_worker(info)
        except LedgerUnavailable as error:
            log.debug("worker.not_reported", error=str(error))
        await asyncio.sleep(worker.settings.heartbeat_s)


async def receive_cancels(worker: WorkerRuntime) -> None:
    async for job_id in worker.notifier.cancel_requests():
        worker.claims.cancel(job_id)


async def watch_connection(worker: WorkerRuntime, connection: Connection) -> None:
    """
    End the worker if a queue has other arguments: if RabbitMQ was down at start, it shows later.
    """
    while True:
        try:
            await connection.wait_open()
        except QueueMismatch as error:
            await release_all(worker.claims, within_s=worker.settings.lease_s)
            abort_worker([str(error)])
        await asyncio.sleep(1)


async def keep_going(task: BackgroundTask) -> None:
    """Restart a background task that fails. That is a bug and logged as one; heartbeats go on."""
    while True:
        try:
            return await task()
        except asyncio.CancelledError:  # some drivers raise it in what waits for them
            if being_cancelled():
                raise
            log.exception("background_task.failed", task=name_of(task))
        except Exception:
            log.exception("background_task.failed", task=name_of(task))
        await asyncio.sleep(1)


def name_of(task: BackgroundTask) -> str:
    function = task.func if isinstance(task, partial) else task
    return getattr(function, "__qualname__", repr(function))
