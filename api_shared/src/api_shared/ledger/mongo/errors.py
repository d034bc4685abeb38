"""The errors of MongoDB's driver as `LedgerUnavailable`: short, without URLs or passwords."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from api_shared.errors import InvalidOption, LedgerUnavailable
from api_shared.tls import why_untrusted

UNENCODABLE = (BSONError, UnicodeEncodeError, OverflowError)
"""The errors of encoding a value that BSON cannot hold."""

NOT_AUTHORIZED = frozenset({13, 18})
"""The server refused the whole command before it did anything."""

TOO_LARGE = frozenset({10334, 17419, 17420})
"""The document would be over MongoDB's limit after the update."""

DUPLICATE_KEY = 11000

_PASSING = frozenset({6, 7, 24, 46, 50, 64, 89, 91, 112, 134, 189, 246, 262, 9001, 10107, 11600,
                      11602, 13435, 13436})  # fmt: skip


def is_passing(code: int) -> bool:
    """Whether the error of a write is temporary (a conflict, a new primary)."""
    return code in _PASSING


def never_left(error: PyMongoError) -> bool:
    """Whether the command that raised this has certainly not been executed."""
    if isinstance(error, OperationFailure):
        return error.code in NOT_AUTHORIZED
    return isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError)


def reason_of(error: PyMongoError) -> str:
    if isinstance(error, OperationFailure):
        name = (error.details or {}).get("codeName", "error")
        return f"MongoDB answered {name} ({error.code})"
    if untrusted := why_untrusted(error, "MONGODB_TLS_CA_FILE"):
        return untrusted
    if isinstance(error, ServerSelectionTimeoutError):
        if "Authentication failed" in str(error):  # the cause that refused the last connection
            return "MongoDB answered AuthenticationFailed (18)"
        return "no primary was found in time"
    if error.timeout or isinstance(error, NetworkTimeout):
        return "no answer in time"
    if isinstance(error, AutoReconnect | ConnectionFailure):
        return "the connection was lost"
    return type(error).__name__


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Turn what the driver raises into `LedgerUnavailable`."""
    try:
        yield
    except PyMongoError as error:
        raise LedgerUnavailable(reason_of(error)) from None
    except TimeoutError:
        raise LedgerUnavailable("no answer in time") from None
    except UNENCODABLE as error:
        raise unencodable("a value for the ledger", error) from None


def unencodable(what: str, error: Exception) -> InvalidOption:
    return InvalidOption(
        what, type(error).__name__, "text must be UTF-8 and numbers below 2**63 (or sent as JSON)"
    )
