"""`running`: brokers start side by side, and none stays started where one does not start."""

from __future__ import annotations

import asyncio

import pytest

from api_shared.broker import running
from api_shared.client.job_broker import JobBroker
from api_shared.errors import NotStarted
from fixtures.doubles import runtime_on
from fixtures.faulty_ledger import FaultyLedger


class Together(JobBroker):
    """Starts only while another broker starts."""

    def __init__(self, name: str, together: asyncio.Barrier, error: Exception | None) -> None:
        super().__init__(name)
        self._together = together
        self._error = error

    async def startup(self) -> None:
        async with asyncio.timeout(30):
            await self._together.wait()
        if self._error is not None:
            raise self._error
        await self.use(runtime_on(FaultyLedger()))

    async def shutdown(self) -> None:
        await self.use(None)


@pytest.mark.parametrize("error", [None, OSError("no server")])
async def test_brokers_start_side_by_side_and_all_or_none(error: OSError | None) -> None:
    together = asyncio.Barrier(2)
    brokers = [Together("general", together, None), Together("ml", together, error)]
    try:
        async with running(*brokers):
            assert error is None
            assert all(each.runtime for each in brokers)
    except OSError as raised:
        assert raised is error
    for each in brokers:
        with pytest.raises(NotStarted):
            assert each.runtime
