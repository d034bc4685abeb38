"""The errors of the servers for development and tests."""

from __future__ import annotations

from api_shared.errors import ApiWorkersError


class ServicesError(ApiWorkersError):
    """The base of all errors of this package."""


class ServiceUnavailable(ServicesError):
    """
    A server cannot be had on this machine, or does not answer. The CLI ends with exit code 4.

    `log_tail` is the end of the server's own log, if there is one: the file itself may be gone.
    """

    def __init__(self, service: str, reason: str, *, remedy: str = "", log_tail: str = "") -> None:
        self.service = service
        self.reason = reason
        self.remedy = remedy
        self.log_tail = log_tail
        sentence = f"{service}: {reason}" + (f"; {remedy}" if remedy else "")
        super().__init__(f"{sentence}\n{log_tail}" if log_tail else sentence)


class NotOurServer(ServicesError):
    """A server that this package did not start was to be stopped, killed or wiped."""

    def __init__(self, service: str, action: str) -> None:
        self.service = service
        self.action = action
        super().__init__(
            f"refusing to {action} {service}: it was found, not started here; "
            f"unset its variable to get a private one"
        )
