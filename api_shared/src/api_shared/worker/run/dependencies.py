"""The dependencies of a task's function, resolved for one job."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from taskiq import Context, TaskiqState
from taskiq.message import TaskiqMessage
from taskiq_dependencies import DependencyGraph

from api_shared.client.bind.task import JobTask
from api_shared.client.job_broker import JobBroker
from api_shared.errors import (
    Snooze,
)
from api_shared.settings import Settings
from api_shared.worker.context import JobContext
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.job_context import LiveJob, ProcessJob


class _JobsOwnContext(Context):
    """Taskiq's `Context` of one job, whose ack and requeue are the platform's."""

    def __reduce__(self) -> tuple[Any, ...]:
        """In the process of a `def` task the broker is that process's own, and not started."""
        return _context_in_process, (self.message, cast(JobBroker, self.broker).name)

    async def ack(self) -> None:
        """The message was acked when the job was claimed."""

    async def requeue(self) -> None:
        raise Snooze(0)


def _context_in_process(message: TaskiqMessage, broker: str) -> Context:
    return _JobsOwnContext(message, JobBroker.made[broker])


class Injected:
    """
    The function's `TaskiqDepends`, resolved for this job alone.

    Taskiq's receiver shares one dictionary between all jobs that run at the time.
    """

    def __init__(
        self,
        task: JobTask[Any, Any],
        claim: HeldClaim,
        message: TaskiqMessage,
        settings: Settings,
    ) -> None:
        broker = task.broker
        job: JobContext = (
            LiveJob(claim, settings.max_result_bytes)
            if task.bound.is_async
            else ProcessJob(claim.job, claim.journal)
        )
        known: Mapping[Any, Any] = {
            **broker.custom_dependency_context,
            Context: _JobsOwnContext(message, broker),
            TaskiqState: broker.state,
            JobContext: job,
        }
        graph = _graph(task)
        self._resolver = graph.async_ctx(dict(known), broker.dependency_overrides or None)

    async def __aenter__(self) -> dict[str, Any]:
        try:
            return await self._resolver.resolve_kwargs()
        except BaseException as error:  # close those that were opened before it
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.shield(self._resolver.close(*error))


def _graph(task: JobTask[Any, Any]) -> DependencyGraph:
    graph: DependencyGraph | None = getattr(task, "dependency_graph", None)
    if graph is None:
        graph = DependencyGraph(task.function)
        task.dependency_graph = graph  # type: ignore[attr-defined]
    return graph
