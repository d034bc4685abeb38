"""Events that a worker publishes of one job: each says when, and what its listeners need."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from api_shared import Discard, JobBroker, Snooze
from api_shared.job import Job, JobError, Reason, Status
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Claim, Claimed, Retry
from api_shared.ledger.transitions import publish_due
from api_shared.notifier.events import JobEvent
from api_shared.testing.memory_broker import SilentConsumer
from api_shared.transport.consumer import Delivery
from api_shared.transport.message import ACCEPTED, decode, encode
from api_shared.worker.run.run_job import run_job
from fixtures.doubles import Clock, runtime_on
from fixtures.ledgers import inserted
from fixtures.worker_runtime import worker_runtime


class Runs:
    """Jobs of one task, run one after the other; `events` is what listeners saw."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = MemoryLedger(self.clock)
        self.broker = JobBroker("general")
        self.worker = worker_runtime(runtime_on(self.ledger))

        @self.broker.task(task_name="work")
        async def work(end: str = "") -> str:
            match end:
                case "snooze":
                    raise Snooze(60, "the disk is full")
                case "discard":
                    raise Discard("no such document")
                case "fail":
                    raise RuntimeError("no answer")
            return "done"

    async def job(self, end: str = "") -> Job:
        return await inserted(self.ledger, task="work", args_json=json.dumps({"end": end}))

    async def run(self, job: Job) -> list[JobEvent]:
        body = encode(job)
        queue = self.worker.runtime.topology.queue(job.queue)
        delivery = Delivery((0, 0, 0), body, queue, {ACCEPTED: 1}, 0, SilentConsumer())
        message = decode(body, max_bytes=len(body))
        events: list[JobEvent] = []
        async with self.worker.notifier.subscribe(job_id=job.id) as subscription:
            with suppress(Exception):  # what it ended with is in its events
                await run_job(self.broker.tasks["work"], delivery, message, None, self.worker)
            while (event := await subscription.next(0.01)) is not None:
                events.append(event)
        return events

    async def failed_once(self) -> Job:
        """Queued again after an attempt that failed."""
        job = await self.job()
        claimed = await self.ledger.apply(Claim(job.id, "token", "w", 15))
        assert isinstance(claimed, Claimed)
        error = JobError(Reason.ERROR, "OSError", "the first attempt")
        assert await self.ledger.apply(Retry(job.id, "token", claimed.job.seq + 1, error, 0))
        retrying = await self.ledger.get(job.id)
        assert retrying is not None
        queued = await self.ledger.change(publish_due(retrying, republish_after_s=30))
        assert queued is not None
        return queued


@pytest.fixture
async def runs() -> AsyncIterator[Runs]:
    yield Runs()


@pytest.mark.parametrize("end", ["", "snooze", "discard", "fail"])
async def test_each_event_says_when_it_happened(runs: Runs, end: str) -> None:
    events = await runs.run(await runs.job(end))

    began, ended = events
    assert began.status is Status.PROCESSING
    assert began.at is not None
    assert ended.at is not None
    assert began.at <= ended.at


async def test_a_failed_job_s_event_names_its_error(runs: Runs) -> None:
    (_, failed) = await runs.run(await runs.job("discard"))

    assert failed.status is Status.FAILED
    assert failed.error == "discarded: no such document"
    assert failed.due_at is None


@pytest.mark.parametrize(
    ("end", "error", "why"),
    [("snooze", None, "the disk is full"), ("fail", "error: no answer", None)],
)
async def test_the_event_of_a_job_that_waits_says_until_when(
    runs: Runs, end: str, error: str | None, why: str | None
) -> None:
    (_, waiting) = await runs.run(await runs.job(end))

    assert waiting.status is Status.RETRYING
    assert waiting.due_at is not None
    assert waiting.at is not None
    assert 45 <= (waiting.due_at - waiting.at).total_seconds() <= 75, "not when its lease ends"
    assert (waiting.error, waiting.why) == (error, why)


async def test_a_settled_job_s_result_is_stored_with_its_event(runs: Runs) -> None:
    job = await runs.job()
    (_, completed) = await runs.run(job)

    stored: Any = await runs.worker.notifier.load_result(job.id)
    assert completed.status is Status.COMPLETED
    assert stored is not None
    assert b"done" in stored


async def test_a_completed_job_s_event_names_no_error_of_an_earlier_attempt(runs: Runs) -> None:
    job = await runs.failed_once()
    (processing, completed) = await runs.run(job)

    assert processing.error == "error: the first attempt"
    assert (completed.status, completed.error) == (Status.COMPLETED, None)
