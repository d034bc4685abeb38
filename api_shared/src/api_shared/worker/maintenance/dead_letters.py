"""Dead-lettering of messages and jobs that cannot run: each is kept whole, with its reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import structlog
from taskiq.utils import maybe_awaitable

from api_shared.client.contract import Contract, FailedJob
from api_shared.errors import LedgerUnavailable, Unroutable
from api_shared.job import Job, Reason
from api_shared.ledger.protocol import Ledger
from api_shared.ledger.transitions import dead_lettered
from api_shared.redaction import redact
from api_shared.transport.consumer import Delivery
from api_shared.transport.dead_letter_headers import DeadLetterHeaders
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.message import ACCEPTED, encode
from api_shared.transport.publisher import Publisher
from api_shared.transport.topology import Topology

log = structlog.get_logger()

HOOK_DEADLINE_S = 30.0
DEAD_LETTERING_S = HOOK_DEADLINE_S + 15.0
"""How long the dead-lettering of a job with a hook may take, the confirm included."""


class DeadLetters:
    """
    Publishes to the dead-letter queues.

    `dead_letter_message` is for a message that is no job, `dead_letter_job` for a job that has
    failed. Both can be repeated: a second copy in the queue does no harm.
    """

    def __init__(
        self,
        publisher: Publisher,
        topology: Topology,
        ledger: Ledger,
        contracts: Mapping[str, Contract[Any, Any]],
        *,
        retention_s: float,
    ) -> None:
        self._publisher = publisher
        self._topology = topology
        self._ledger = ledger
        self._contracts = contracts
        self._retention_s = retention_s

    async def dead_letter_message(self, delivery: Delivery, reason: Reason, detail: str) -> bool:
        """
        Publish a message to the dead-letter queue, then ack it.

        False: RabbitMQ did not take it, and the message is requeued.
        """
        detail = redact(detail)
        try:
            await self._publisher.publish_dead_letter(
                delivery.queue,
                delivery.body,
                DeadLetterHeaders(reason, detail, delivery.queue.name),
                headers=delivery.headers,
                priority=delivery.priority,
            )
        except (RabbitUnavailable, Unroutable) as error:
            log.warning("dead_letter.failed", reason=reason, error=str(error))
            delivery.requeue()
            return False
        log.warning(
            "message.dead_lettered", queue=delivery.queue.name, reason=reason, detail=detail
        )
        delivery.ack()
        return True

    async def dead_letter_job(self, job: Job) -> None:
        """
        Publish a failed job's dead letter, call its contract's `on_failure`, and note both.

        If a server is away, the job stays due, and the dispatcher tries again later.
        """
        error = job.error
        reason = error.reason if error else Reason.ERROR
        try:
            queue = self._topology.queue(job.queue)
            detail = f"{error.type}: {error.message}" if error else ""
            await self._publisher.publish_dead_letter(
                queue,
                encode(job),
                DeadLetterHeaders(
                    reason, detail, queue.name, job.round, job.owner, job.correlation_id
                ),
                headers={ACCEPTED: 1},
                priority=job.priority,
            )
            await self._call_hook(job)
            await self._ledger.change(dead_lettered(job, retention_s=self._retention_s))
        except (RabbitUnavailable, Unroutable, LedgerUnavailable) as problem:
            log.warning("dead_letter.later", job_id=job.id, error=str(problem))
            return
        log.warning("job.dead_lettered", job_id=job.id, task=job.task, reason=reason)

    def again_in_s(self, task: str, lease_s: float) -> float:
        """
        The time after which an unfinished dead-lettering is repeated. Its hook has ended by then.
        """
        contract = self._contracts.get(task)
        has_hook = contract is not None and contract.on_failure is not None
        return max(lease_s, DEAD_LETTERING_S) if has_hook else lease_s

    async def _call_hook(self, job: Job) -> None:
        contract = self._contracts.get(job.task)
        if contract is None or contract.on_failure is None:
            return
        error = job.error
        failed = FailedJob(
            job_id=job.id,
            task=job.task,
            reason=error.reason if error else Reason.ERROR,
            message=error.message if error else "",
            owner=job.owner,
            correlation_id=job.correlation_id,
            args=json.loads(job.args_json),
        )
        try:
            async with asyncio.timeout(HOOK_DEADLINE_S):
                await maybe_awaitable(contract.on_failure(failed))
        except Exception as problem:
            words = f"{type(problem).__name__}: {problem}"
            log.warning("on_failure.failed", job_id=job.id, error=words)
