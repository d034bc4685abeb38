"""Publishing, on a channel that the test answers for."""

from __future__ import annotations

from typing import Any

import pytest

from api_shared.testing import default_settings
from api_shared.transport.dead_letter_headers import DeadLetterHeaders
from api_shared.transport.pamqp_patches import patch_pamqp
from api_shared.transport.publisher import MAX_HEADERS_BYTES, AmqpPublisher
from api_shared.transport.topology import topology_of

TOPOLOGY = topology_of("general", default_settings())
QUEUE = TOPOLOGY.default
MARK = DeadLetterHeaders("unreadable", "no JSON", QUEUE.name)


class Connection:
    """A connection, and its channel."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.channel = self

    async def is_blocked(self) -> bool:
        return False

    async def basic_publish(
        self, _: bytes, *, routing_key: str, properties: Any, **__: Any
    ) -> None:
        properties.marshal()
        self.sent.append((routing_key, properties.headers))


@pytest.fixture
def connection() -> Connection:
    patch_pamqp()
    return Connection()


async def publish_dead_letter(connection: Any, headers: dict[str, Any]) -> None:
    publisher = AmqpPublisher(connection, TOPOLOGY, deadline_s=1)
    await publisher.publish_dead_letter(QUEUE, b"{", MARK, headers=headers)


def nested(levels: int) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    for _ in range(levels):
        headers = {"in": [headers]}
    return headers


@pytest.mark.parametrize("headers", [{"load": 1e300}, {"raw": b"\xff"}, nested(10)])
async def test_a_dead_letter_carries_the_headers_of_its_message(
    connection: Connection, headers: dict[str, Any]
) -> None:
    await publish_dead_letter(connection, headers)
    assert connection.sent == [(f"{QUEUE.name}.dlq", headers | MARK.headers)]


@pytest.mark.parametrize(
    "headers",
    [
        {"of no type": object()},
        {"huge": 2**70},
        {"long": "h" * MAX_HEADERS_BYTES},
        nested(26),
        nested(160),
        nested(450),
    ],
)
async def test_headers_that_cannot_be_sent_are_left_and_the_message_is_dead_lettered_all_the_same(
    connection: Connection, headers: dict[str, Any]
) -> None:
    await publish_dead_letter(connection, headers)
    assert connection.sent == [(f"{QUEUE.name}.dlq", MARK.headers)]
