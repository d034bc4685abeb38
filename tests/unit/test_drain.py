"""The end of a drain: what still runs goes on elsewhere, and no outcome is waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel

from api_shared.client.contract import Contract
from api_shared.client.job_broker import JobBroker
from api_shared.errors import QueueMismatch
from api_shared.job import Status
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.worker.process import background, drain
from api_shared.worker.process.drain import outlast_leases, release_all
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import HeldClaim, Stop
from api_shared.worker.run.outcome import Completed
from api_shared.worker.run.settle import settle_job
from fixtures.doubles import runtime_on
from fixtures.ledgers import claimed, inserted
from fixtures.worker_runtime import worker_runtime

LEASE_S = 0.1


class Nothing(BaseModel):
    pass


CONTRACT = Contract("work", Nothing, int, broker="general")


async def work() -> int:
    return 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "GRACE_S", 0.0)
    monkeypatch.setattr(drain, "POLL_S", 0.005)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def claims(ledger: MemoryLedger) -> ClaimRegistry:
    return ClaimRegistry(ledger, lease_s=LEASE_S, heartbeat_s=1)


@pytest.fixture
async def claim(ledger: MemoryLedger, claims: ClaimRegistry) -> HeldClaim:
    job = await inserted(ledger, task="work", args_json="{}")
    held, token = await claimed(ledger, job.id)
    claim = HeldClaim(held, token, ledger, MemoryNotifier())
    claims.add(claim)
    return claim


@pytest.fixture
async def giving_up(claims: ClaimRegistry) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(outlast_leases(claims, lease_s=LEASE_S))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def outlasts_two_leases(task: asyncio.Task[None]) -> bool:
    done, _ = await asyncio.wait({task}, timeout=2 * LEASE_S)
    return not done


async def test_while_the_ledger_answers_an_outcome_is_waited_for(
    giving_up: asyncio.Task[None], claim: HeldClaim
) -> None:
    assert await outlasts_two_leases(giving_up)


async def test_while_nothing_is_held_there_is_nothing_to_give_up(
    giving_up: asyncio.Task[None], claims: ClaimRegistry
) -> None:
    claims.unreachable = True
    assert await outlasts_two_leases(giving_up)


async def test_a_ledger_that_is_away_is_waited_for_as_long_as_a_lease_may_stand(
    giving_up: asyncio.Task[None], claims: ClaimRegistry, claim: HeldClaim
) -> None:
    loop = asyncio.get_running_loop()
    claims.unreachable = True
    await asyncio.sleep(LEASE_S / 2)
    claims.unreachable = False  # a heartbeat came through
    await asyncio.sleep(LEASE_S / 2)
    renewed_at = loop.time()
    claims.unreachable = True
    async with asyncio.timeout(10):
        await giving_up
    assert loop.time() - renewed_at > LEASE_S * 0.8


async def test_a_heartbeat_that_was_under_way_is_waited_for_beyond_the_lease(
    claims: ClaimRegistry, claim: HeldClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "GRACE_S", 60.0)
    claims.unreachable = True
    giving_up = asyncio.create_task(outlast_leases(claims, lease_s=LEASE_S))
    assert await outlasts_two_leases(giving_up)
    giving_up.cancel()


async def test_what_is_handed_on_is_waited_for_but_not_for_long(
    claims: ClaimRegistry, claim: HeldClaim
) -> None:
    async with asyncio.timeout(10):
        await release_all(claims, within_s=0.05)
    assert claim.stop_reason is Stop.DRAIN
    asyncio.get_running_loop().call_later(0.01, claims.remove, claim)
    await release_all(claims)
    assert not claims


async def test_an_outcome_that_the_ledger_does_not_take_is_left_to_the_lease(
    ledger: MemoryLedger, claims: ClaimRegistry, claim: HeldClaim
) -> None:
    task = JobBroker("general").task(CONTRACT)(work)
    worker = worker_runtime(runtime_on(ledger), claims=claims)
    await ledger.give_up()
    assert await settle_job(task, claim, Completed(1, "1"), 0.1, worker) is None
    left = await ledger.get(claim.job.id)
    assert left is not None
    assert (left.status, left.attempt) == (Status.PROCESSING, 0)


async def test_a_worker_that_must_end_after_a_reconnect_hands_on_first(
    claims: ClaimRegistry, claim: HeldClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mismatched:
        async def wait_open(self) -> None:
            raise QueueMismatch("taskiq", "x-max-priority")

    class Refused(Exception):
        pass

    def abort_worker(problems: list[str]) -> NoReturn:
        assert not claims, "nothing runs any more"
        raise Refused(*problems)

    monkeypatch.setattr(background, "abort_worker", abort_worker)
    worker = worker_runtime(runtime_on(MemoryLedger()), claims=claims)
    connection: Any = Mismatched()
    claim.stopped.add_done_callback(lambda _: claims.remove(claim))
    with pytest.raises(Refused, match="x-max-priority"):
        await background.watch_connection(worker, connection)
