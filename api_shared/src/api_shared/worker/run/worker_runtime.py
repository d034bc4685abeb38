"""What a worker process has at hand to run jobs with."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from api_shared.client.runtime import Runtime
from api_shared.job import Reason
from api_shared.transport.consumer import Delivery
from api_shared.worker.job_process import ProcessExecutor
from api_shared.worker.maintenance.dead_letters import DeadLetters
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.isolation import Isolation
from api_shared.worker.run.stuck_tasks import StuckTasks

BURIAL_PAUSE_S = 1.0


class Intake(Protocol):
    """Where deliveries come from."""

    def pause(self, seconds: float) -> None:
        """Take no more for a while."""

    def held(self) -> AbstractContextManager[None]:
        """Take none within this block."""


@dataclass(frozen=True, slots=True)
class WorkerRuntime:
    """One for each worker process; a test makes its own."""

    worker_id: str
    runtime: Runtime
    intake: Intake
    claims: ClaimRegistry
    dead_letters: DeadLetters
    compute: ProcessExecutor
    floor: Isolation
    stuck_tasks: StuckTasks

    async def bury(self, delivery: Delivery, reason: Reason, detail: str) -> None:
        """A message to the dead letters; while RabbitMQ takes none, nothing is taken in either."""
        if not await self.dead_letters.dead_letter_message(delivery, reason, detail):
            self.intake.pause(BURIAL_PAUSE_S)
