"""
The requeue of dead letters: the next round of a job, or a message published again unchanged.

The order makes it safe: first the ledger is written (from then on the dispatcher guards the job),
then the message is published, and last the dead letter is removed. A process that dies in between
leaves at worst a copy in the dead-letter queue, whose round shows that it is stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import structlog

from api_shared.client.dead_letters.dead_letter import DeadLetter, Kind
from api_shared.client.dead_letters.reader import DeadLetterReader
from api_shared.client.runtime import Runtime
from api_shared.errors import JobNotFound, UniqueTaken, Unroutable
from api_shared.job import Job, Status
from api_shared.ledger import transitions
from api_shared.ledger.unique_keys import release_lapsed
from api_shared.notifier.events import status_event
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.publisher import Publisher

log = structlog.get_logger()

MAX_CAUSE = 200


class Outcome(StrEnum):
    """The outcome of the requeue of one dead letter."""

    REQUEUED = "requeued"
    """The next round of its job has begun."""
    PUT_BACK = "put_back"
    """The message is in its queue again, and a worker will read it."""
    STALE = "stale"
    """Its job has gone on since: nothing was done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`job` is the job after the requeue, or as it is. None: the ledger has no record of it."""

    outcome: Outcome
    job: Job | None = None


async def requeue(
    job: Job, runtime: Runtime, *, why: str, forget_journal: bool = False
) -> Job | None:
    """
    Begin the next round of a job that has failed. The caller publishes its message.

    The journal stays, so that what counts once is not done again, unless `forget_journal` is set.
    None: the job has changed since it was read, because another process was faster. Raises
    `UniqueTaken` if another job holds its unique key now (a job whose period is over does not),
    and `LedgerUnavailable`.
    """
    cause = "" if job.error is None else f" {job.error.reason}: {job.error.message}"
    change = transitions.requeue(
        job,
        republish_after_s=runtime.settings.republish_after_s,
        note=f"{why} after{cause}".partition("\n")[0][:MAX_CAUSE] if cause else why,
        forget_journal=forget_journal,
    )
    try:
        begun = await runtime.ledger.change(change)
    except UniqueTaken as taken:
        holder = await runtime.ledger.get(taken.job_id)
        if holder is None or await runtime.ledger.change(release_lapsed(holder)) is None:
            raise
        begun = await runtime.ledger.change(change)
    if begun is not None:
        runtime.notifier.publish(status_event(begun))
        log.info("job.requeued", job_id=job.id, task=job.task, round=begun.round)
    return begun


async def requeue_job(
    job_id: str, runtime: Runtime, *, ended_round: int | None = None, forget_journal: bool = False
) -> Answer:
    """
    Begin and publish the next round of a failed job, even if its dead letter is gone.

    Only a job whose present round is `ended_round` is requeued; None: any round. Raises
    `JobNotFound`, `UniqueTaken`, `LedgerUnavailable`.
    """
    job = await runtime.ledger.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    if job.status is not Status.FAILED or ended_round not in (None, job.round):
        return Answer(Outcome.STALE, job)
    begun = await requeue(job, runtime, why="requeued", forget_journal=forget_journal)
    if begun is None:
        return Answer(Outcome.STALE, await runtime.ledger.get(job_id))
    try:
        await runtime.publisher.publish_job(begun)
    except (RabbitUnavailable, Unroutable) as error:  # the dispatcher publishes it later
        log.info("publish.later", job_id=job_id, error=str(error))
    return Answer(Outcome.REQUEUED, begun)


async def put_back(
    dead_letter: DeadLetter,
    reader: DeadLetterReader,
    publisher: Publisher,
    runtime: Runtime,
    *,
    forget_journal: bool = False,
) -> Answer:
    """
    Requeue one dead letter and remove it from its queue. A stale one stays there.

    Raises `UniqueTaken`, `LedgerUnavailable`, `RabbitUnavailable`, `Unroutable`.
    """
    if dead_letter.kind is Kind.STALE:
        return Answer(Outcome.STALE, dead_letter.job)
    if dead_letter.kind is Kind.FAILED:
        try:
            answer = await requeue_job(
                dead_letter.key,
                runtime,
                ended_round=dead_letter.headers.ended_round,
                forget_journal=forget_journal,
            )
        except JobNotFound:  # it has expired since it was read: only the message is left
            pass
        else:
            if answer.outcome is Outcome.REQUEUED:
                await reader.remove(dead_letter.message)
            return answer
    message = dead_letter.message
    await publisher.put_back(
        message.queue, message.body, headers=dict(message.headers), priority=message.priority
    )
    await reader.remove(message)
    return Answer(Outcome.PUT_BACK)
