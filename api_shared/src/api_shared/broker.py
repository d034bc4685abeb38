"""The two brokers, defined once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from api_shared.client.job_broker import JobBroker
from api_shared.client.started_brokers import not_started
from api_shared.contracts import general, language, ml

T = TypeVar("T")

broker = JobBroker("general").know(*general.CONTRACTS, *language.CONTRACTS)
ml_broker = JobBroker("ml").know(*ml.CONTRACTS)


@asynccontextmanager
async def running(*brokers: JobBroker) -> AsyncIterator[None]:
    """Started brokers, to kiq through; none named: both. They start side by side."""
    chosen = brokers or (broker, ml_broker)
    async with AsyncExitStack() as stack:
        for each in chosen:
            stack.push_async_callback(each.shutdown)
        for result in await asyncio.gather(
            *(each.startup() for each in chosen), return_exceptions=True
        ):
            if result is not None:
                raise result
        yield


@contextmanager
def running_in_thread(*brokers: JobBroker) -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """
    For synchronous programs: a function that runs a coroutine to its end.

    The brokers live in an event loop of their own, in a thread; any thread may call. A fork has no
    such thread: enter this in each process (gunicorn: in `post_fork`, or without --preload). Else
    a call raises `NotStarted` there.
    """
    process = os.getpid()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api-workers", daemon=True)
    thread.start()

    def call(coroutine: Coroutine[Any, Any, T]) -> T:
        if os.getpid() != process:
            coroutine.close()
            raise not_started((brokers or (broker,))[0].name)
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    started = running(*brokers)
    try:
        call(started.__aenter__())
        try:
            yield call
        finally:
            if os.getpid() == process:
                call(started.__aexit__(None, None, None))
    finally:
        if os.getpid() == process:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
