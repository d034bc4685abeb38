"""What a thread does for the jobs of a process whose event loop is blocked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api_shared import JobBroker
from api_shared.errors import LedgerUnavailable
from api_shared.job import Job, Reason, Status
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Claim
from api_shared.ledger.transitions import request_cancel
from api_shared.notifier.memory import MemoryNotifier
from api_shared.worker.process import watchdog_ledger as rescue_module
from api_shared.worker.process.watchdog_ledger import WatchdogLedger
from api_shared.worker.run.held_claim import HeldClaim, RunningTask, Stop
from fixtures.doubles import Clock, runtime_on
from fixtures.ledgers import claimed, inserted
from fixtures.worker_runtime import worker_runtime

STACK = 'File "tasks.py", line 7, in work'


class AwayLedger(MemoryLedger):
    async def heartbeat(self, held: Any, *, lease_s: float) -> Any:
        return await asyncio.Event().wait()


class Place:
    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.broker = JobBroker("general")

        @self.broker.task(task_name="add", max_retries=1)
        async def add(a: int = 1) -> int:
            return a

        worker = worker_runtime(runtime_on(ledger))
        self.claims = worker.claims
        self.rescue = WatchdogLedger(worker, self.broker.tasks, lambda: ledger)

    async def claim(self, *, soft_s: float = 1, hard_s: float = 2) -> HeldClaim:
        job = await inserted(self.ledger, task="add")
        job, token = await claimed(self.ledger, job.id)
        claim = HeldClaim(job, token, self.ledger, MemoryNotifier())
        task: asyncio.Task[str] = asyncio.create_task(asyncio.sleep(0, "x"))
        claim.running = RunningTask(task, soft_s, hard_s)
        self.claims.add(claim)
        return claim

    async def job(self, claim: HeldClaim) -> Job:
        job = await self.ledger.get(claim.job.id)
        assert job is not None
        return job

    async def release_all(self, blocker: HeldClaim | None, stop: Stop | None = None) -> None:
        await asyncio.to_thread(self.rescue.release_all, blocker, stop, STACK)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(clock: Clock) -> Place:
    return Place(MemoryLedger(clock))


async def test_the_blocker_has_failed_at_its_limit_and_its_neighbours_lose_nothing(
    place: Place,
) -> None:
    blocker, neighbour = await place.claim(), await place.claim()
    await place.release_all(blocker)
    job = await place.job(blocker)
    assert job.error is not None
    assert (job.status, job.attempt, job.lost) == (Status.RETRYING, 1, 0)
    assert job.error.reason is Reason.TIME_LIMIT
    assert "blocked the event loop" in job.error.message
    assert job.error.traceback == STACK
    other = await place.job(neighbour)
    assert (other.status, other.attempt, other.lost) == (Status.RETRYING, 0, 0)


async def test_a_claim_that_its_process_has_not_heard_of_yet_is_renewed_and_handed_on(
    place: Place, clock: Clock
) -> None:
    job = await inserted(place.ledger, task="add")
    with place.claims.writing(job.id, "t"):
        await place.ledger.apply(Claim(job.id, "t", "w", 15))
        clock.advance(10)
        assert await asyncio.to_thread(place.rescue.renew) == {job.id: None}
        clock.advance(10)
        assert await place.ledger.due("general") == []
        await place.release_all(None)
    after = await place.ledger.get(job.id)
    assert after is not None
    assert (after.status, after.lost) == (Status.RETRYING, 0)
    assert place.claims.tokens == {}


async def test_a_blocker_whose_job_is_claimed_anew_takes_nothing_from_the_new_claim(
    place: Place,
) -> None:
    newer = await place.claim()
    blocker = HeldClaim(newer.job, "taken back", place.ledger, MemoryNotifier())
    await place.release_all(blocker, Stop.LOST)
    job = await place.job(newer)
    assert (job.status, job.attempt, job.lost) == (Status.RETRYING, 0, 0)


@pytest.mark.parametrize(
    ("stop", "status"), [(Stop.CANCEL, Status.CANCELLED), (Stop.LOST, Status.PROCESSING)]
)
async def test_a_blocker_that_was_to_stop_ends_by_the_reason_of_its_stop(
    place: Place, stop: Stop, status: Status
) -> None:
    blocker = await place.claim()
    await place.release_all(blocker, stop)
    assert (await place.job(blocker)).status is status


async def test_renewing_says_which_jobs_must_stop(place: Place) -> None:
    stays, cancelled, lost = [await place.claim() for _ in range(3)]
    await place.ledger.change(request_cancel(cancelled.job.id))
    lost.token = "another worker has it"
    assert await asyncio.to_thread(place.rescue.renew) == {
        stays.job.id: None,
        cancelled.job.id: Stop.CANCEL,
        lost.job.id: Stop.LOST,
    }


async def test_a_ledger_that_does_not_answer_is_not_waited_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue_module, "ANSWER_S", 0.01)
    place = Place(AwayLedger(clock))
    await place.claim()
    with pytest.raises(LedgerUnavailable, match="no answer within"):
        await asyncio.to_thread(place.rescue.renew)
