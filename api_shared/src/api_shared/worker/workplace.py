"""What a worker process has at hand to run jobs with."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from api_shared.amqp.consumer import Delivery
from api_shared.job import Reason
from api_shared.kiq import Backing
from api_shared.worker.claims import Claims
from api_shared.worker.compute import Compute
from api_shared.worker.dead_letters import DeadLetters
from api_shared.worker.floor import Floor
from api_shared.worker.leftovers import Leftovers

BURIAL_PAUSE_S = 1.0


class Intake(Protocol):
    """Where deliveries come from."""

    def pause(self, seconds: float) -> None:
        """Take no more for a while."""

    def held(self) -> AbstractContextManager[None]:
        """Take none within this block."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """One for each worker process; a test makes its own."""

    worker_id: str
    backing: Backing
    intake: Intake
    claims: Claims
    dead_letters: DeadLetters
    compute: Compute
    floor: Floor
    leftovers: Leftovers

    async def bury(self, delivery: Delivery, reason: Reason, detail: str) -> None:
        """A message to the dead letters; while RabbitMQ takes none, nothing is taken in either."""
        if not await self.dead_letters.bury_message(delivery, reason, detail):
            self.intake.pause(BURIAL_PAUSE_S)
