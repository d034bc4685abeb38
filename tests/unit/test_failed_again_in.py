"""Failed jobs whose dead letter nobody has finished: when it is begun again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import BaseModel

from api_shared import Discard
from api_shared.client.contract import Contract, FailedJob
from api_shared.client.job_broker import JobBroker
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.worker.maintenance.dead_letters import DEAD_LETTERING_S, HOOK_DEADLINE_S
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.outcome import failure
from api_shared.worker.run.settle import settle_job
from fixtures.doubles import Clock, runtime_on
from fixtures.ledgers import claimed, inserted
from fixtures.worker_runtime import worker_runtime


class Nothing(BaseModel):
    pass


async def work() -> int:
    raise AssertionError("it is settled without a run")


def told(failed: FailedJob) -> None: ...


@pytest.mark.parametrize(
    ("has_hook", "lease_s", "again_in_s"),
    [(False, 15, 15), (True, 15, DEAD_LETTERING_S), (True, 3600, 3600)],
)
async def test_a_failure_is_begun_again_when_its_hook_must_have_ended(
    has_hook: bool, lease_s: float, again_in_s: float
) -> None:
    clock = Clock()
    ledger = MemoryLedger(clock)
    contract = Contract(
        "work", Nothing, int, broker="general", on_failure=told if has_hook else None
    )
    task = JobBroker("general").task(contract)(work)
    worker = worker_runtime(
        runtime_on(ledger, lease_s=lease_s), contracts={contract.name: contract}
    )
    job = await inserted(ledger, task="work", args_json="{}")
    held, token = await claimed(ledger, job.id)
    claim = HeldClaim(held, token, ledger, MemoryNotifier())
    await settle_job(task, claim, failure(Discard("no such page"), contract), 0.1, worker)
    failed = await ledger.get(job.id)
    assert failed is not None
    assert failed.due_at == clock.now + timedelta(seconds=again_in_s)


def test_a_hook_has_ended_before_another_dispatcher_begins_again() -> None:
    assert DEAD_LETTERING_S > HOOK_DEADLINE_S
