"""
The started brokers of this process, by name. A contract finds its broker here.

In the child of a fork (gunicorn with --preload, multiprocessing) no broker is started: connections
and the threads and event loops that serve them are the parent's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

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

    def forget(self) -> None:
        """Be as before the start, in the child of a fork, and close nothing."""


started: dict[str, Enqueuer] = {}
"""Each broker adds itself when it starts, and removes itself when it stops."""

_all_started: WeakSet[Enqueuer] = WeakSet()
_before_fork: set[str] = set()
"""The brokers that a parent of this process had started."""


def add_started(name: str, broker: Enqueuer) -> None:
    started[name] = broker
    _all_started.add(broker)


def remove_started(name: str, broker: Enqueuer) -> None:
    _all_started.discard(broker)
    if started.get(name) is broker:
        del started[name]


def not_started(name: str) -> NotStarted:
    """The error of a broker that is not started, which says so if only a parent started it."""
    return NotStarted(name, started, forked=name in _before_fork)


def started_broker(name: str) -> Enqueuer:
    """The started broker of this name. Raises `NotStarted`."""
    if name not in started:
        raise not_started(name)
    return started[name]


def _forget_all() -> None:
    _before_fork.update(started)
    started.clear()
    for broker in list(_all_started):
        broker.forget()
    _all_started.clear()


os.register_at_fork(after_in_child=_forget_all)
