"""When a job may ask a server: it waits a little for that, else it comes again later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from secrets import token_hex
from time import monotonic

from api_shared.errors import Snooze
from workers_general.llm.admission import Admission, NotNow, Why
from workers_general.llm.errors import RateLimitError

LOOK_EVERY_S = (0.05, 0.2)
NO_PLACE_S = (1.0, 4.0)
"""How long a job snoozes that found no place: nobody knows when one will be free."""

SPREAD_S = 10.0
"""Those who wait for a gate come within so many seconds after it opened, at most."""


@asynccontextmanager
async def turn(
    admission: Admission, server: str, *, patience_s: float, rng: Random
) -> AsyncIterator[None]:
    """
    The block is one call of `server`, with a place of its own.

    Raises `Snooze` when there is none within `patience_s`, and in place of a `RateLimitError` of
    the block, after closing the gate for all workers: it costs the job no attempt.
    """
    place = token_hex(8)
    await _let_in(lambda: admission.enter(server, place), admission, server, patience_s, rng)
    keeper = asyncio.create_task(_keep(admission, server, place))
    went_well = False
    try:
        yield
        went_well = True
    except RateLimitError as error:
        raise await _left_alone(admission, server, error, rng) from error
    finally:
        keeper.cancel()
        await admission.leave(server, place, went_well=went_well)


@asynccontextmanager
async def question(
    admission: Admission, server: str, *, patience_s: float, rng: Random
) -> AsyncIterator[None]:
    """
    The block asks `server` for no answer of its model (it counts tokens, say): only a closed gate
    stops it, and it has no part in the places and the rate. Its answers are in no journal, so that
    a job which spent the rate on them would never come to its call. Raises `Snooze`, as `turn`.
    """
    await _let_in(lambda: admission.gate(server), admission, server, patience_s, rng)
    try:
        yield
    except RateLimitError as error:
        raise await _left_alone(admission, server, error, rng) from error


async def _left_alone(
    admission: Admission, server: str, error: RateLimitError, rng: Random
) -> Snooze:
    wait_s = await admission.close_gate(server, error.retry_after_s)
    return _snooze(admission, server, NotNow(Why.GATE, wait_s), rng)


async def _let_in(
    knock: Callable[[], Awaitable[NotNow | None]],
    admission: Admission,
    server: str,
    patience_s: float,
    rng: Random,
) -> None:
    deadline = monotonic() + patience_s
    while (refused := await knock()) is not None:
        pause_s = max(refused.wait_s, rng.uniform(*LOOK_EVERY_S))
        if monotonic() + pause_s > deadline:
            raise _snooze(admission, server, refused, rng)
        await asyncio.sleep(pause_s)


async def _keep(admission: Admission, server: str, place: str) -> None:
    while True:
        await asyncio.sleep(admission.limits.lease_s / 3)
        await admission.keep(server, place)


def _snooze(admission: Admission, server: str, refused: NotNow, rng: Random) -> Snooze:
    match refused.why:
        case Why.GATE:
            later_s = refused.wait_s + rng.uniform(0, min(refused.wait_s / 4, SPREAD_S))
            return Snooze(later_s, f"{server} asked to be left alone")
        case Why.RATE:
            later_s = refused.wait_s + rng.uniform(*NO_PLACE_S)
            return Snooze(later_s, f"{server} has its LLM_REQUESTS_PER_MINUTE")
        case Why.PLACES:
            why = f"{server} has its LLM_MAX_IN_FLIGHT={admission.limits.in_flight} calls"
            return Snooze(rng.uniform(*NO_PLACE_S), why)
