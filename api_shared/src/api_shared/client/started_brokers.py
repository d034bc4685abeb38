"""The started brokers of this process, by name: how a contract finds its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from api_shared.client.options import KiqOptions
from api_shared.errors import NotStarted

if TYPE_CHECKING:
    from api_shared.client.runtime import Runtime


class Enqueuer(Protocol):
    """What accepts jobs: a started broker."""

    @property
    def runtime(self) -> Runtime: ...

    async def enqueue(self, contract: Any, args: Any, options: KiqOptions) -> Any:
        """The handle of the accepted job. Raises as `Contract.kiq` does."""


started: dict[str, Enqueuer] = {}
"""Each broker puts itself here when it starts, and takes itself away when it stops."""


def started_broker(name: str) -> Enqueuer:
    """Raises `NotStarted`."""
    if name not in started:
        raise NotStarted(name, started)
    return started[name]
