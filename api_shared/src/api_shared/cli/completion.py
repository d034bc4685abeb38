"""Completion in the shell, which uses no server."""

from __future__ import annotations


def task_names(incomplete: str) -> list[str]:
    from api_shared.cli.contracts import known_contracts

    return [each.name for each in known_contracts() if each.name.startswith(incomplete)]


def queue_names(incomplete: str) -> list[str]:
    from api_shared.cli.connections import BROKERS
    from api_shared.settings import load_settings
    from api_shared.transport.topology import topology_of

    settings = load_settings()
    queues = [queue.name for broker in BROKERS for queue in topology_of(broker, settings).queues]
    return [name for name in queues if name.startswith(incomplete)]


def broker_names(incomplete: str) -> list[str]:
    from api_shared.cli.connections import BROKERS

    return [name for name in BROKERS if name.startswith(incomplete)]


def statuses(incomplete: str) -> list[str]:
    from api_shared.job import Status

    return [status.value for status in Status if status.value.startswith(incomplete)]
