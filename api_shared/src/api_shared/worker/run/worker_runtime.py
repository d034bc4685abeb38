"""The parts that a worker process runs jobs with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api_shared.client.contract import Contract
from api_shared.client.runtime import Runtime
from api_shared.job import Reason
from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.settings import Settings
from api_shared.transport.consumer import Delivery
from api_shared.transport.publisher import Publisher
from api_shared.worker.job_process import ProcessExecutor
from api_shared.worker.maintenance.dead_letters import DeadLetters
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.isolation import Isolation, Pausable
from api_shared.worker.run.stuck_tasks import StuckTasks

DEAD_LETTER_PAUSE_S = 1.0
"""How long no messages are consumed after RabbitMQ did not take a dead letter."""


@dataclass(frozen=True, slots=True)
class WorkerRuntime:
    """One for each worker process; a test makes its own."""

    worker_id: str
    runtime: Runtime
    consumer: Pausable
    claims: ClaimRegistry
    dead_letters: DeadLetters
    executor: ProcessExecutor
    isolation: Isolation
    stuck_tasks: StuckTasks

    @classmethod
    def of(
        cls,
        runtime: Runtime,
        *,
        worker_id: str,
        consumer: Pausable,
        publisher: Publisher,
        contracts: Mapping[str, Contract[Any, Any]],
        executor: ProcessExecutor,
        retire: Callable[[], None],
        claims: ClaimRegistry | None = None,
    ) -> WorkerRuntime:
        """
        Build the parts from the settings. Pass `claims` if several runtimes share one registry.
        """
        settings, ledger = runtime.settings, runtime.ledger
        if claims is None:
            claims = ClaimRegistry(
                ledger, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s
            )
        stuck_tasks = StuckTasks(retire)
        return cls(
            worker_id=worker_id,
            runtime=runtime,
            consumer=consumer,
            claims=claims,
            dead_letters=DeadLetters(
                publisher, runtime.topology, ledger, contracts, retention_s=settings.retention_s
            ),
            executor=executor,
            isolation=Isolation(
                ledger, claims, stuck_tasks, consumer, max_lost=settings.task_max_lost
            ),
            stuck_tasks=stuck_tasks,
        )

    @property
    def settings(self) -> Settings:
        return self.runtime.settings

    @property
    def ledger(self) -> Ledger:
        return self.runtime.ledger

    @property
    def notifier(self) -> Notifier:
        return self.runtime.notifier

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str) -> None:
        """
        Dead-letter a message. If RabbitMQ does not take it, no messages are consumed for a while.
        """
        if not await self.dead_letters.dead_letter_message(delivery, reason, detail):
            self.consumer.pause(DEAD_LETTER_PAUSE_S)
