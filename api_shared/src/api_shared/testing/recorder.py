"""A recorder of kiqs, which runs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import TypeVar

from api_shared.broker import broker, ml_broker
from api_shared.client.job_broker import JobBroker
from api_shared.client.runtime import Runtime
from api_shared.job import Job
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Inserted, Operation
from api_shared.notifier.memory import MemoryNotifier
from api_shared.settings import Settings
from api_shared.testing.memory_broker import SilentPublisher, default_settings, standing_on
from api_shared.transport.topology import topology_of

V = TypeVar("V")


@asynccontextmanager
async def recording(
    *brokers: JobBroker, settings: Settings | None = None
) -> AsyncIterator[list[Job]]:
    """
    A block in which each kiq is validated and recorded, and no job runs.

        async with recording(broker) as kiqs:
            await GREET.kiq(GreetArgs(name="Ada"), priority=5)
        [job] = kiqs
        assert (job.task, job.args, job.priority) == ("greet", {"name": "Ada"}, 5)

    The list grows with each job that is accepted. A handle's `result()` would wait for ever; its
    `status()`, `watch()` and `cancel()` work. With no broker named, both are meant.
    """
    settings = settings or default_settings()
    ledger, notifier = _Recorder(), MemoryNotifier()
    with ExitStack() as stack:
        for each in brokers or (broker, ml_broker):
            topology = topology_of(each.name, settings)
            runtime = Runtime(settings, topology, ledger, notifier, SilentPublisher())
            stack.enter_context(standing_on(each, runtime))
        yield ledger.kiqs


class _Recorder(MemoryLedger):
    def __init__(self) -> None:
        super().__init__()
        self.kiqs: list[Job] = []

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        verdict = await super().apply(operation, deadline_s=deadline_s)
        if isinstance(verdict, Inserted) and verdict.by_us:
            self.kiqs.append(verdict.job)
        return verdict
