"""The errors of RabbitMQ, made from what the driver raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api_shared.errors import ApiWorkersError, ServerError
from api_shared.tls import why_untrusted


class RabbitUnavailable(ServerError):
    """RabbitMQ cannot be reached. `reason` holds no password."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"RabbitMQ (RABBITMQ_URL) is not reachable: {reason}")


@contextmanager
def driver_errors() -> Iterator[None]:
    """
    Turn what a call of the driver raises into `RabbitUnavailable`; our own errors stay.

    A pending call may end with any exception: with CancelledError on a stuck connection, though
    nothing cancelled its task; with a bare `Exception()` if the connection ended with its frames.
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
    """Whether this task has been cancelled, a deadline of its own included."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def words(error: BaseException) -> str:
    """The text of an error. Connection errors of the driver show the host, never the password."""
    if untrusted := why_untrusted(error, "RABBITMQ_TLS_CA_FILE"):
        return untrusted
    return f"{type(error).__name__}: {error}".rstrip(": ")
