"""The started brokers of this process, by name. A contract finds its broker here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from api_shared.client.options import KiqOptions
from api_shared.errors import NotStarted

if TYPE_CHECKING:
    from api_shared.client.runtime import Runtime


class Enqueuer(Protocol):
    """A started broker, which accepts jobs."""

    @property
    def runtime(self) -> Runtime: ...

    async def enqueue(self, contract: Any, args: Any, options: KiqOptions) -> Any:
        """Enqueue a job and return its handle. Raises as `Contract.kiq` does."""


started: dict[str, Enqueuer] = {}
"""Each broker adds itself when it starts, and removes itself when it stops."""


def started_broker(name: str) -> Enqueuer:
    """The started broker of this name. Raises `NotStarted`."""
    if name not in started:
        raise NotStarted(name, started)
    return started[name]
