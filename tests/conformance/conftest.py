"""A test of a ledger runs with the one in MongoDB, batched or not, and with the one in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.protocol import Ledger
from fixtures.ledgers import mongo_ledger


@pytest.fixture(params=["memory", "mongodb, one by one", "mongodb"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    url = request.getfixturevalue("services").mongodb.url
    async with mongo_ledger(url, max_batch=200 if request.param == "mongodb" else 1) as ledger:
        yield ledger
