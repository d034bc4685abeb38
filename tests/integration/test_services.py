"""The starter of local services, on real servers."""

from __future__ import annotations

from api_shared.services import Services


def test_each_server_answers_when_the_starter_says_so(services: Services) -> None:
    for server in services.servers.values():
        server.ask()
