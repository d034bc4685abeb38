"""What a run in a process of its own means for its job."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from api_shared.client.contract import Contract
from api_shared.client.job_broker import JobBroker
from api_shared.errors import Snooze
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.worker.job_process import (
    Cancelled,
    ComputeClosed,
    ForkRefused,
    Outcome,
    ServerNotStarted,
    ServerSlow,
)
from api_shared.worker.run.execute_in_process import NO_PROCESS_S, execute_in_process
from api_shared.worker.run.held_claim import HeldClaim
from fixtures.ledgers import a_job


class Nothing(BaseModel):
    pass


CONTRACT = Contract("work", Nothing, int, broker="general")


def work() -> int:
    return 1


class Ends:
    """A `ProcessExecutor` whose runs end in one way."""

    def __init__(self, how: Outcome | Exception) -> None:
        self._how = how

    async def run(self, *_: Any, **__: Any) -> Outcome:
        if isinstance(self._how, Exception):
            raise self._how
        return self._how


async def run_on(compute: Any) -> Any:
    task = JobBroker("general").task(CONTRACT)(work)
    claim = HeldClaim(a_job(task="work"), "token", MemoryLedger(), MemoryNotifier())
    return await execute_in_process(task, Nothing(), {}, claim, 1, 2, compute, None)


@pytest.mark.parametrize("how", [Cancelled(), ComputeClosed()])
async def test_a_run_that_its_worker_ended_goes_on_elsewhere(how: Outcome | Exception) -> None:
    with pytest.raises(Snooze) as raised:
        await run_on(Ends(how))
    assert (raised.value.delay_s, raised.value.why) == (0, "worker stopped")


@pytest.mark.parametrize(
    "error",
    [
        ServerSlow("importing sklearn took longer than 60 s"),
        ServerNotStarted("Resource temporarily unavailable"),
        ForkRefused("Resource temporarily unavailable"),
    ],
)
async def test_where_the_machine_had_no_process_for_it_a_job_waits(error: Exception) -> None:
    with pytest.raises(Snooze) as raised:
        await run_on(Ends(error))
    assert (raised.value.delay_s, raised.value.why) == (NO_PROCESS_S, str(error))


async def test_a_module_that_does_not_import_is_the_jobs_failure() -> None:
    error = ServerNotStarted("import x: ImportError", module="x")
    with pytest.raises(ServerNotStarted, match="import x"):
        await run_on(Ends(error))
