"""The two brokers, defined once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from api_shared.client.job_broker import JobBroker
from api_shared.contracts import general, language, ml

T = TypeVar("T")

broker = JobBroker("general").know(*general.CONTRACTS, *language.CONTRACTS)
ml_broker = JobBroker("ml").know(*ml.CONTRACTS)


@asynccontextmanager
async def running(*brokers: JobBroker) -> AsyncIterator[None]:
    """Started brokers, to kiq through; none named: both."""
    async with AsyncExitStack() as stack:
        for each in brokers or (broker, ml_broker):
            await stack.enter_async_context(each)
        yield


@contextmanager
def running_in_thread(*brokers: JobBroker) -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """
    For synchronous programs: a function that runs a coroutine to its end.

    The brokers live in an event loop of their own, in a thread; any thread may call.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api-workers", daemon=True)
    thread.start()

    def call(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    started = running(*brokers)
    try:
        asyncio.run_coroutine_threadsafe(started.__aenter__(), loop).result()
        try:
            yield call
        finally:
            asyncio.run_coroutine_threadsafe(started.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
