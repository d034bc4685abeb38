"""The rate gate: a job waits a little for its call, or else comes again later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from secrets import token_hex
from time import monotonic

from api_shared.errors import Snooze
from workers_general.llm.errors import RateLimitError
from workers_general.llm.limits.admission import Admission, Refusal, RefusalReason

POLL_S = (0.05, 0.2)
NO_SLOT_S = (1.0, 4.0)
"""How long a job snoozes that found no slot: it is not known when one will be free."""

SPREAD_S = 10.0
"""The jobs that wait for a gate come back within at most this many seconds after it opens."""


@asynccontextmanager
async def gated_call(
    admission: Admission, server: str, *, patience_s: float, rng: Random
) -> AsyncIterator[None]:
    """
    The block is one call of the model of `server`, and has a slot of its own. Calls that wait get
    theirs in the order in which they came.

    Raises `Snooze` if there is no slot within `patience_s`. A `RateLimitError` of the block closes
    the gate for all workers and becomes a `Snooze`: it costs the job no attempt.
    """
    slot, deadline = token_hex(8), monotonic() + patience_s
    async with _in_line(admission.lines[server], patience_s):
        await _admitted(lambda: admission.acquire(server, slot), admission, server, deadline, rng)
    renewing = asyncio.create_task(_renew(admission, server, slot))
    succeeded = False
    try:
        yield
        succeeded = True
    except RateLimitError as error:
        raise await _closed(admission, server, error, rng) from error
    finally:
        renewing.cancel()
        await admission.release(server, slot, succeeded=succeeded)


@asynccontextmanager
async def gated_query(
    admission: Admission, server: str, *, patience_s: float, rng: Random
) -> AsyncIterator[None]:
    """
    The block asks `server` something that its model does not answer: it counts tokens, say.

    Only a closed gate stops it; it uses no slot, and does not count for the rate. Its answers are
    not in the journal, so that a job that spent the rate on them would never get to its call.
    Raises `Snooze`, as `gated_call`.
    """
    deadline = monotonic() + patience_s
    await _admitted(lambda: admission.check_gate(server), admission, server, deadline, rng)
    try:
        yield
    except RateLimitError as error:
        raise await _closed(admission, server, error, rng) from error


@asynccontextmanager
async def _in_line(line: asyncio.Lock, patience_s: float) -> AsyncIterator[None]:
    """
    Whoever came first asks for a slot first, among the calls of this process. Who has waited for
    `patience_s` asks once more, out of turn, and hears why there is none.
    """
    try:
        async with asyncio.timeout(patience_s):
            await line.acquire()
    except TimeoutError:
        yield
        return
    try:
        yield
    finally:
        line.release()


async def _closed(admission: Admission, server: str, error: RateLimitError, rng: Random) -> Snooze:
    wait_s = await admission.close_gate(server, error.retry_after_s)
    return _snooze(admission, server, Refusal(RefusalReason.GATE, wait_s), rng)


async def _admitted(
    request: Callable[[], Awaitable[Refusal | None]],
    admission: Admission,
    server: str,
    deadline: float,
    rng: Random,
) -> None:
    while (refusal := await request()) is not None:
        pause_s = max(refusal.wait_s, rng.uniform(*POLL_S))
        if monotonic() + pause_s > deadline:
            raise _snooze(admission, server, refusal, rng)
        await asyncio.sleep(pause_s)


async def _renew(admission: Admission, server: str, slot: str) -> None:
    while True:
        await asyncio.sleep(admission.limits.lease_s / 3)
        await admission.renew(server, slot)


def _snooze(admission: Admission, server: str, refusal: Refusal, rng: Random) -> Snooze:
    match refusal.reason:
        case RefusalReason.GATE:
            later_s = refusal.wait_s + rng.uniform(0, min(refusal.wait_s / 4, SPREAD_S))
            return Snooze(later_s, f"{server} asked to be left alone")
        case RefusalReason.RATE:
            later_s = refusal.wait_s + rng.uniform(*NO_SLOT_S)
            return Snooze(later_s, f"{server} has reached its LLM_REQUESTS_PER_MINUTE")
        case RefusalReason.SLOTS:
            limit = admission.limits.in_flight
            return Snooze(
                rng.uniform(*NO_SLOT_S), f"{server} has reached its LLM_MAX_IN_FLIGHT={limit}"
            )
