"""The connections of commands: only those that each needs, with a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from api_shared.client.runtime import Runtime
    from api_shared.ledger.protocol import Ledger
    from api_shared.settings import Settings

T = TypeVar("T")

LEVELS = ("WARNING", "INFO", "DEBUG")
BROKERS = ("general", "ml")


class Verbosity:
    """The number of times that `-v` was given."""

    count = 0


def run(main: Callable[[Settings], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine. Raises what it raises, and `InvalidSettings`."""
    from api_shared.settings import load_settings

    settings = load_settings()
    configure_output(settings)
    return asyncio.run(main(settings))


def configure_output(settings: Settings) -> None:
    """Set up logging to stderr before anything starts: only warnings unless -v is given."""
    from api_shared.logs import configure_logging

    level = LEVELS[min(Verbosity.count, len(LEVELS) - 1)]
    log_format = "console" if settings.log_format == "auto" else settings.log_format
    configure_logging(settings.model_copy(update={"log_level": level, "log_format": log_format}))
    if Verbosity.count:
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    else:
        # Hides the drivers' own messages: each command says in a sentence what a server did.
        logging.getLogger().addHandler(logging.NullHandler())


@asynccontextmanager
async def ledger_of(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger alone."""
    from api_shared.ledger.mongo.ledger import MongoLedger

    ledger = MongoLedger(settings)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def runtime_of(settings: Settings) -> AsyncIterator[Runtime]:
    """Ledger and notifier, without a connection to RabbitMQ."""
    from api_shared.client.runtime import Runtime
    from api_shared.notifier.redis.notifier import RedisNotifier
    from api_shared.transport.publisher import NoPublisher
    from api_shared.transport.topology import topology_of

    async with ledger_of(settings) as ledger:
        notifier = RedisNotifier(settings)
        await notifier.start()
        try:
            topology = topology_of(BROKERS[0], settings)
            yield Runtime(settings, topology, ledger, notifier, NoPublisher())
        finally:
            await notifier.close()
