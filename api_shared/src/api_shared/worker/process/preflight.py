"""Checks of a worker's setup, before it takes its first message."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence

from taskiq import SimpleRetryMiddleware, SmartRetryMiddleware

from api_shared.client.bind.middleware import GuardedMiddleware
from api_shared.client.job_broker import JobBroker
from api_shared.client.periodic import definitions_of
from api_shared.errors import UnknownQueue, UsageError
from api_shared.settings import Settings

RETRIES = (SimpleRetryMiddleware, SmartRetryMiddleware)


class ImportFailures(logging.Filter):
    """
    The task modules that taskiq could not import.

    Taskiq only logs the failure (`taskiq worker app:broker my.tasks`), and this worker would not
    know the jobs of such a module.
    """

    def __init__(self) -> None:
        super().__init__()
        self.modules: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Cannot import %s") and record.args:
            module = record.args[0] if isinstance(record.args, tuple) else record.args
            self.modules.append(str(module))
        return True

    def listen(self) -> None:
        logging.getLogger("taskiq.worker").addFilter(self)


def import_tasks(modules: Sequence[str]) -> list[str]:
    """Import task modules; a problem for each that fails."""
    problems = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            problems.append(f"module {module!r} cannot be imported ({words}): fix or remove it")
    return problems


def problems_of(broker: JobBroker, settings: Settings) -> list[str]:
    """The reasons why this worker would lose or mistreat jobs, each with its way out."""
    problems = []
    topology = broker.runtime.topology
    try:
        consumed = {queue.name for queue in topology.select(settings.worker_queues)}
    except UnknownQueue as error:
        return [f"WORKER_QUEUES: {error}"]
    for contract in broker.contracts:
        try:
            queue = topology.queue(contract.queue).name
        except UnknownQueue as error:
            problems.append(f"contract {contract.name!r}: {error}")
            continue
        if queue in consumed and contract.name not in broker.tasks:
            problems.append(
                f"task {contract.name!r} of queue {queue!r} has no function here: bind it with "
                f"@broker.task, list its module, or leave the queue out of WORKER_QUEUES"
            )
    if not problems:
        try:
            definitions_of(broker.contracts, topology, settings)
        except UsageError as error:
            problems.append(f"a schedule: {error}")
    for middleware in broker.middlewares:
        inner = middleware.inner if isinstance(middleware, GuardedMiddleware) else middleware
        if isinstance(inner, RETRIES):
            problems.append(
                f"{type(inner).__name__} would run jobs twice: remove it and set max_retries and "
                f"backoff_s of the contract"
            )
    return problems
