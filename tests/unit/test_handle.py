"""The handle that a kiq returns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api_shared.client.dead_letters.requeue import requeue_job
from api_shared.client.follow.handle import JobHandle
from api_shared.job import Job
from api_shared.ledger.operations import Complete
from api_shared.notifier.events import status_event
from api_shared.testing.waiting import until
from fixtures.dead_letters import World
from fixtures.ledgers import claimed


async def test_a_job_that_is_requeued_as_its_failure_is_told_gives_the_result_of_its_next_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    failed = await world.failed()
    get, reads = world.ledger.get, []

    async def requeued_after_the_first_read(job_id: str) -> Job | None:
        job = await get(job_id)
        reads.append(job)
        if len(reads) == 1:
            await requeue_job(job_id, world.runtime)
        return job

    monkeypatch.setattr(world.ledger, "get", requeued_after_the_first_read)
    handle: JobHandle[Any] = JobHandle(failed.id, world.runtime, None, None)
    waiting = asyncio.create_task(handle.result(timeout=10))
    await until(lambda: len(reads) > 3)  # it watches the next round
    held, token = await claimed(world.ledger, failed.id)
    await world.ledger.apply(Complete(failed.id, token, held.seq + 1, "7", 60))
    world.runtime.notifier.publish(status_event(await world.read(failed.id)))
    assert await waiting == 7
