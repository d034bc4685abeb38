"""The exit codes, and the errors that end in each."""

from __future__ import annotations

from enum import IntEnum

from api_shared.errors import (
    DeadLetterNotFound,
    JobCancelled,
    JobFailed,
    JobNotFound,
    ResultTimeout,
    ServerError,
)


class ExitCode(IntEnum):
    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    TIMED_OUT = 124
    INTERRUPTED = 130
    BROKEN_PIPE = 141


FINDINGS = ExitCode.JOB_FAILED
"""The exit code if all servers answer and a command found something wrong."""


def exit_code_of(error: Exception) -> ExitCode:
    """
    The code of an error that this package raises on purpose; that of wrong usage if none fits.
    """
    match error:
        case JobNotFound() | DeadLetterNotFound():
            return ExitCode.NOT_FOUND
        case JobFailed() | JobCancelled():
            return ExitCode.JOB_FAILED
        case ResultTimeout():
            return ExitCode.TIMED_OUT
        case ServerError():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.USAGE
