"""Outcomes of a body, as values that `run_job` settles."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from api_shared.client.contract import Contract, InvalidResult
from api_shared.errors import (
    Discard,
    InvalidArguments,
    PermanentError,
    Snooze,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TooLarge,
)
from api_shared.job import JobError, Reason
from api_shared.redaction import redact
from api_shared.worker.job_process import ResultNotEncodable, ResultTooLarge
from api_shared.worker.run.execute_in_process import RemoteError

MAX_MESSAGE = 2000
MAX_TRACEBACK = 16_000
MAX_TYPE = 200
MAX_WHY = 200


@dataclass(frozen=True, slots=True)
class Completed:
    value: Any
    result_json: str


@dataclass(frozen=True, slots=True)
class Failed:
    """`permanent`: no retry. `exception` is the one that middlewares get."""

    error: JobError
    permanent: bool
    exception: BaseException


@dataclass(frozen=True, slots=True)
class Snoozed:
    delay_s: float
    why: str = "snoozed"


@dataclass(frozen=True, slots=True)
class Cancelled:
    pass


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker stops: the job goes on elsewhere, no attempt counted."""


@dataclass(frozen=True, slots=True)
class LostClaim:
    """The claim was lost: nothing may be written any more."""


Outcome = Completed | Failed | Snoozed | Cancelled | Interrupted | LostClaim


def failure(error: BaseException, contract: Contract[Any, Any]) -> Failed:
    """Classify what a body raised: permanent by its contract or by its nature, or not."""
    name, text = type(error).__qualname__, "".join(traceback.format_exception(error, limit=-30))
    if isinstance(error, RemoteError):
        name, text = error.type_name, error.remote_traceback
    job_error = JobError(
        reason=_reason(error, contract),
        type=_utf8(name[:MAX_TYPE]),
        # Redacted before they are cut: half a secret is not recognised.
        message=_utf8(redact(_words(error)[: 2 * MAX_MESSAGE])[:MAX_MESSAGE]),
        traceback=_utf8(redact(text[-2 * MAX_TRACEBACK :])[-MAX_TRACEBACK:]),
    )
    return Failed(job_error, job_error.reason not in (Reason.ERROR, Reason.TIME_LIMIT), error)


def snoozed(error: Snooze) -> Snoozed:
    return Snoozed(error.delay_s, _utf8(redact(str(error.why))[:MAX_WHY]))


def _reason(error: BaseException, contract: Contract[Any, Any]) -> Reason:
    if isinstance(error, Discard):
        return Reason.DISCARDED
    if isinstance(error, InvalidArguments):
        return Reason.INVALID_ARGUMENTS
    if isinstance(error, (InvalidResult, TooLarge)) or _is_spoilt_in_its_process(error):
        return Reason.INVALID_RESULT
    if _is_permanent(error, contract):
        return Reason.PERMANENT_ERROR
    if isinstance(error, (TimeLimitExceeded, SoftTimeLimitExceeded)):
        return Reason.TIME_LIMIT
    return Reason.ERROR


def _is_spoilt_in_its_process(error: BaseException) -> bool:
    return isinstance(error, RemoteError) and error.is_a(
        InvalidResult, ResultNotEncodable, ResultTooLarge
    )


def _is_permanent(error: BaseException, contract: Contract[Any, Any]) -> bool:
    permanent: tuple[type[BaseException], ...] = (PermanentError, *contract.permanent)
    if isinstance(error, RemoteError):
        return error.is_a(*permanent)
    return isinstance(error, permanent)


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its message cannot be shown: str() of it raises"


def _utf8(text: str) -> str:
    """`text` without lone surrogates, which no store accepts."""
    return text.encode("utf-8", "replace").decode()
