"""The environment variables of a scenario's broker and workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from api_shared.testing.servers import Services

SHORT_TIMES = {
    "LEASE_S": "7",
    "HEARTBEAT_S": "1",
    "REPUBLISH_AFTER_S": "3",
    "DISPATCH_EVERY_S": "0.2",
    "DRAIN_S": "5",
    "CONNECT_DEADLINE_S": "5",
    "RABBITMQ_HEARTBEAT_S": "4",
}
"""Short times, so that what takes a lease takes only seconds."""


def variables_for(services: Services, name: str, folder: Path) -> dict[str, str]:
    """Settings with `name` as vhost, database and Redis prefix."""
    return {
        **SHORT_TIMES,
        **services.env,
        "RABBITMQ_URL": urlsplit(services.rabbitmq.url)._replace(path=f"/{name}").geturl(),
        "DATABASE_NAME": name,
        "REDIS_PREFIX": name,
        "STORAGE_URL": f"file:{folder / 'storage'}",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        # The CPU slots of this scenario alone.
        "XDG_RUNTIME_DIR": str(folder),
    }


@contextmanager
def environment_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with `variables` over it: brokers read it when they start."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
