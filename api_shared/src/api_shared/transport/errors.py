"""What the driver raises, made ours where it is called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api_shared.errors import ApiWorkersError, ServerError
from api_shared.tls import why_untrusted


class RabbitUnavailable(ServerError):
    """RabbitMQ cannot be reached; `reason` carries no password."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"RabbitMQ (RABBITMQ_URL) is not reachable: {reason}")


@contextmanager
def driver_errors() -> Iterator[None]:
    """
    Around every call of the driver: what it raises becomes `RabbitUnavailable`, ours stays.

    A pending call may end with anything: with CancelledError on a connection that was stuck, though
    nobody cancelled its task; with a bare `Exception()` where the last frames came with the end.
    """
    try:
        yield
    except ApiWorkersError:
        raise
    except asyncio.CancelledError:
        if being_cancelled():
            raise
        raise RabbitUnavailable("the connection was stuck") from None
    except Exception as error:
        raise RabbitUnavailable(words(error)) from error


def being_cancelled() -> bool:
    """Whether somebody asked this task to end, a deadline of its own included."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def words(error: BaseException) -> str:
    """An error in words; connection errors of the driver show the host, never the password."""
    if untrusted := why_untrusted(error, "RABBITMQ_TLS_CA_FILE"):
        return untrusted
    return f"{type(error).__name__}: {error}".rstrip(": ")
