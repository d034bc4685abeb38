"""A broker that runs on memory for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pamqp.common import FieldTable
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from taskiq.depends.progress_tracker import TaskProgress

from api_shared.client.follow.result_backend import JobResultBackend, taskiq_progress_of
from api_shared.client.job_broker import JobBroker
from api_shared.client.runtime import Runtime
from api_shared.job import Job
from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.settings import Settings
from api_shared.transport.dead_letter_headers import DeadLetterHeaders
from api_shared.transport.publisher import Publisher
from api_shared.transport.topology import QueueSpec


def default_settings(**values: Any) -> Settings:
    """
    The settings' default values, with `values` of your own; the environment is not read.

        settings = default_settings(task_max_retries=0)
        assert (settings.task_max_retries, settings.lease_s) == (0, 15)
    """
    return _SettingsOfNobody(**values)


@contextmanager
def standing_on(broker: JobBroker, runtime: Runtime) -> Iterator[None]:
    """Make the broker use `runtime`. Afterwards it is as it was, started or not."""
    runtime_before, borrowed_before = broker._runtime, broker._borrowed
    results_before = broker.result_backend
    broker._set_runtime(runtime, borrowed=True)
    broker.result_backend = _ResultsInMemory(runtime.settings, runtime.ledger, runtime.notifier)
    try:
        yield
    finally:
        broker._set_runtime(runtime_before, borrowed=borrowed_before)
        broker.result_backend = results_before


class SilentPublisher(Publisher):
    """A publisher that drops jobs and dead letters."""

    async def publish_job(self, job: Job) -> None: ...

    async def publish_dead_letter(
        self,
        queue: QueueSpec,
        body: bytes,
        dead_letter: DeadLetterHeaders,
        *,
        headers: FieldTable | None = None,
        priority: int = 0,
    ) -> None: ...

    async def put_back(
        self, queue: QueueSpec, body: bytes, *, headers: FieldTable, priority: int
    ) -> None: ...


class SilentConsumer:
    """A consumer without a queue, for a delivery and a worker runtime."""

    def ack(self, tag: int) -> None: ...

    def requeue(self, tag: int) -> None: ...

    def pause(self, seconds: float) -> None: ...

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()


class _SettingsOfNobody(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class _ResultsInMemory(JobResultBackend):
    """Taskiq's results in memory, those of its `ProgressTracker` included."""

    def __init__(self, settings: Settings, ledger: Ledger, notifier: Notifier) -> None:
        super().__init__(settings, ledger, notifier)
        self._progress: dict[str, TaskProgress[Any]] = {}

    async def set_progress(self, task_id: str, progress: TaskProgress[Any]) -> None:
        self._progress[task_id] = progress

    async def get_progress(self, task_id: str) -> TaskProgress[Any] | None:
        return self._progress.get(task_id) or taskiq_progress_of(await self._job(task_id))
