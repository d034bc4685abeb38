"""The findings of `kiq doctor` on queues."""

from __future__ import annotations

from typing import Any

import pytest

from api_shared.cli.commands.doctor import check_rabbitmq
from api_shared.cli.rabbitmq import Depth
from api_shared.testing import default_settings
from api_shared.transport.topology import topology_of


async def test_a_missing_queue_is_named_without_its_dead_letters_and_those_there_are_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def depth_of(_: object, name: str) -> Depth | None:
        missing = name in ("critical", "critical.dlq", "keywords.dlq")
        return None if missing else Depth(2 if name == "low.dlq" else 0, 0)

    async def sound(*_: object) -> Any:
        return None

    async def no_findings(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(check_rabbitmq, "depth_of", depth_of)
    monkeypatch.setattr(check_rabbitmq, "_check_queue", sound)
    monkeypatch.setattr(check_rabbitmq, "_check_exchange", no_findings)
    connection: Any = None
    letters, missing, _ = await check_rabbitmq._check_topology(
        connection, topology_of("general", default_settings())
    )
    assert letters.text == "2 dead letters in 'low.dlq'"
    assert "kiq dlq list --queue low" in letters.remedy
    assert missing.text.endswith("not declared yet: critical, keywords.dlq")
