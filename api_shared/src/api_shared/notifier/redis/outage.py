"""Outages of Redis: a log line at the begin and the end of each, and the pauses between tries."""

from __future__ import annotations

import time
from random import Random

import structlog

from api_shared.backoff import backoff_s
from api_shared.tls import why_untrusted

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class Outage:
    """An outage that several parts notice. It begins with the first and ends with the last."""

    def __init__(self) -> None:
        self._noticed_by: set[str] = set()
        self._since = 0.0

    def notice(self, who: str, error: BaseException) -> None:
        if not self._noticed_by:
            self._since = time.monotonic()
            log.warning("notifier.unreachable", error=describe(error))
        self._noticed_by.add(who)

    def is_over_for(self, who: str) -> None:
        if who in self._noticed_by:
            self._noticed_by.remove(who)
            if not self._noticed_by:
                away_s = round(time.monotonic() - self._since, 3)
                log.info("notifier.reachable", away_s=away_s)

    def forget(self, who: str) -> None:
        """Forget `who`, which stops and cannot notice the end of the outage."""
        self._noticed_by.discard(who)


def pause_s(failures: int, rng: Random) -> float:
    """Seconds until the next try to connect, after so many failures in a row."""
    return backoff_s(failures, base_s=FIRST_PAUSE_S, cap_s=LONGEST_PAUSE_S, rng=rng)


def describe(error: BaseException) -> str:
    """The innermost error in one line. The client's errors name host and port, never a password."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if untrusted := why_untrusted(error, "REDIS_TLS_CA_FILE"):
        return untrusted
    return f"{type(error).__name__}: {error}"[:300]
