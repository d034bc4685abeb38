"""
Named points between the steps of a job, at which a worker ends by kill -9.

The platform's own code has no hooks for them. `arm`, which only the main module of such a worker
calls (`crashing_worker.py`), replaces the ledger by one with these points, and adds a step before
the task runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from taskiq import TaskiqDepends

from api_shared.errors import Discard
from api_shared.job import Job
from api_shared.ledger.change import Change
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.ledger.operations import Claimed, Complete, Fail, Insert, Operation, Retry
from api_shared.testing.chaos.trace import traced
from api_shared.testing.chaos.workers.load import broker
from api_shared.worker.context import JobContext
from api_shared.worker.run import run_job as run_job_module

V = TypeVar("V")

ACCEPTED = "ledger-written"
"""The ledger has a kiq's job, RabbitMQ has not."""
CLAIMED = "claimed"
"""The claim is durable, the message is not acked."""
ACKED = "acked"
"""The message is acked, the task has not begun."""
DONE = "done"
"""The task has returned, nothing of its outcome is written."""
SETTLED = "settled"
"""The outcome is durable, no event is published."""
RETRY_DECIDED = "retry-decided"
"""The attempt has failed, the retry is not stored."""
DEAD_LETTER_DECIDED = "dead-letter-decided"
"""The job has failed for good, and its dead letter is not published."""
DEAD_LETTER_PUBLISHED = "dead-letter-published"
"""RabbitMQ has the dead letter, the ledger does not know."""

POINTS = (
    ACCEPTED, CLAIMED, ACKED, DONE, SETTLED, RETRY_DECIDED, DEAD_LETTER_DECIDED,
    DEAD_LETTER_PUBLISHED,
)  # fmt: skip

GATHER_S = 0.3
"""How long a process waits, before its kill, for others of its jobs to come to their point."""


class Spared(Exception):
    """An attempt that is to be retried."""


async def arrive(point: str, args: dict[str, Any], job_id: str) -> None:
    """At its point a job's process dies, once; the job is then let through."""
    if args.get("point") != point:
        return
    try:
        (Path(args["folder"]) / f"{job_id}.{point}").touch(exist_ok=False)
    except FileExistsError:
        return
    asyncio.get_running_loop().call_later(GATHER_S, os.kill, os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()


class CrashingLedger(MongoLedger):
    """The real one, with the points before and after its writes."""

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        change = operation.change
        settles = isinstance(operation, (Complete, Retry, Fail))
        args = await self._args(change.job_id) if settles else {}
        if isinstance(operation, (Complete, Retry)):
            point = DONE if isinstance(operation, Complete) else RETRY_DECIDED
            await arrive(point, args, change.job_id)
        verdict = await super().apply(operation, deadline_s=deadline_s)
        if isinstance(operation, Insert):
            await arrive(ACCEPTED, operation.job.args, change.job_id)
        elif isinstance(verdict, Claimed):
            await arrive(CLAIMED, verdict.job.args, change.job_id)
        elif isinstance(operation, (Complete, Fail)):
            point = SETTLED if isinstance(operation, Complete) else DEAD_LETTER_DECIDED
            await arrive(point, args, change.job_id)
        return verdict

    async def change(self, change: Change) -> Job | None:
        if change.put.get("failure_told"):
            await arrive(DEAD_LETTER_PUBLISHED, await self._args(change.job_id), change.job_id)
        return await super().change(change)

    async def _args(self, job_id: str) -> dict[str, Any]:
        job = await self.get(job_id)
        return {} if job is None else job.args


_execute = vars(run_job_module)["execute"]


async def _crash_or_execute(task: Any, claim: Any, message: Any, **others: Any) -> Any:
    await arrive(ACKED, claim.job.args, claim.job.id)
    return await _execute(task, claim, message, **others)


def arm() -> None:
    """From here on this process can be killed at a point."""
    vars(import_module("api_shared.client.job_broker"))["MongoLedger"] = CrashingLedger
    vars(run_job_module)["execute"] = _crash_or_execute


@broker.task(task_name="chaos.step", backoff_s=0)
async def step(folder: str, point: str, job: JobContext = TaskiqDepends()) -> int:
    """Has its effect once: the first record counts. Returns the claim that recorded it."""
    with traced(folder, job.id):
        if point == RETRY_DECIDED and job.attempt == 1:
            raise Spared("the first attempt fails")
        if point in (DEAD_LETTER_DECIDED, DEAD_LETTER_PUBLISHED):
            raise Discard("it is to be dead-lettered")
        if job.recall("effect") is None:
            await job.record("effect", job.claim_no)
        return int(job.recall("effect"))


@broker.task(task_name="chaos.kiq_step", soft_timeout=600, timeout=600)
async def kiq_step(folder: str, child_id: str) -> str:
    """A service that is killed between ledger and RabbitMQ, and kiqs again when it is back."""
    await step.kicker().with_task_id(child_id).kiq(folder, ACCEPTED)
    return child_id
