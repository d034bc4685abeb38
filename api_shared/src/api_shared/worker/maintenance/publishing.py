"""Publishing of queued jobs that are overdue, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from api_shared.errors import Unroutable
from api_shared.job import Job
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.publisher import Publisher

log = structlog.get_logger()

AT_A_TIME = 20


async def publish_or_later(job: Job, publisher: Publisher) -> None:
    """Publish the message of a queued job. If that fails, the dispatcher publishes it later."""
    try:
        await publisher.publish_job(job)
    except (RabbitUnavailable, Unroutable) as error:
        log.info("publish.later", job_id=job.id, error=str(error))


async def for_each(jobs: Sequence[Job], act: Callable[[Job], Awaitable[None]]) -> None:
    """
    Act on the jobs side by side, so that the ledger waits for its disk once for many of them.

    Raises the first error when all have ended.
    """
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(job: Job) -> None:
        async with gate:
            await act(job)

    for ended in await asyncio.gather(*map(one, jobs), return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
