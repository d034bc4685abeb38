"""
Putting dead letters back: a job's next round, or a message as it is.

The order is what makes it safe: first the ledger (from then on the dispatcher guards the job), then
the publish, last the dead letter goes. Whoever dies in between leaves at worst a copy in the
dead-letter queue, which its round shows to be stale.
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
    """What became of one dead letter."""

    REQUEUED = "requeued"
    """Its job's next round has begun."""
    PUT_BACK = "put_back"
    """The message is in its queue again, for a worker to look at."""
    STALE = "stale"
    """Its job has gone on since: nothing was done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`job` after a requeue, or as it stands; None for what is no recorded job."""

    outcome: Outcome
    job: Job | None = None


async def requeue(
    job: Job, runtime: Runtime, *, why: str, forget_journal: bool = False
) -> Job | None:
    """
    Begin the next round of a job that has failed; the caller publishes it.

    The journal stays, so that what counts once is not done again, unless it is to be forgotten.
    None: the job is not as it was read any more (another was faster). Raises `UniqueTaken` where
    another job holds its unique key now (one whose period is over does not), and
    `LedgerUnavailable`.
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
    A failed job's next round, whether its dead letter is still there or not; `ended_round` None:
    whichever it is in. Raises `JobNotFound`, `UniqueTaken`, `LedgerUnavailable`.
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
    except (RabbitUnavailable, Unroutable) as error:  # the dispatcher does it
        log.info("publish.later", job_id=job_id, error=str(error))
    return Answer(Outcome.REQUEUED, begun)


async def put_back(
    letter: DeadLetter,
    pile: DeadLetterReader,
    publisher: Publisher,
    runtime: Runtime,
    *,
    forget_journal: bool = False,
) -> Answer:
    """
    Requeue one dead letter, and take it from the pile; a stale one stays there.

    Raises `UniqueTaken`, `LedgerUnavailable`, `RabbitUnavailable`, `Unroutable`.
    """
    if letter.kind is Kind.STALE:
        return Answer(Outcome.STALE, letter.job)
    if letter.kind is Kind.FAILED:
        try:
            answer = await requeue_job(
                letter.key,
                runtime,
                ended_round=letter.mark.ended_round,
                forget_journal=forget_journal,
            )
        except JobNotFound:  # it has expired since the look: the message is all there is
            pass
        else:
            if answer.outcome is Outcome.REQUEUED:
                await pile.remove(letter.message)
            return answer
    message = letter.message
    await publisher.put_back(
        message.queue, message.body, headers=dict(message.headers), priority=message.priority
    )
    await pile.remove(message)
    return Answer(Outcome.PUT_BACK)
