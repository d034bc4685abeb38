"""The task `health_check`: it requests a URL and reports the status."""

from __future__ import annotations

from functools import cache
from ssl import SSLContext
from time import perf_counter

import httpx

from api_shared.broker import broker
from api_shared.contracts.general import HEALTH_CHECK, HealthCheckArgs, HealthCheckResult


@broker.task(HEALTH_CHECK)
async def health_check(args: HealthCheckArgs) -> HealthCheckResult:
    return await check_url(str(args.url), args.timeout_s)


async def check_url(url: str, timeout_s: float) -> HealthCheckResult:
    """An unhealthy server is a result, not a failure of the job; redirects are not followed."""
    started = perf_counter()
    try:
        async with httpx.AsyncClient(timeout=timeout_s, verify=_certificates()) as client:
            response = await client.get(url, follow_redirects=False)
    except httpx.HTTPError as error:
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        return HealthCheckResult(url=url, ok=False, latency_ms=_since_ms(started), error=words)
    return HealthCheckResult(
        url=url,
        ok=response.status_code < 400,
        status_code=response.status_code,
        latency_ms=_since_ms(started),
    )


@cache
def _certificates() -> SSLContext:
    """Loading them takes 20 ms of CPU, a thousand times more than the rest of a check."""
    return httpx.create_ssl_context()


def _since_ms(started: float) -> float:
    return round((perf_counter() - started) * 1000, 2)
