"""What a body raised, classified: retried or not, and in words that every store takes."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from api_shared.client.contract import Contract, InvalidResult
from api_shared.errors import (
    Discard,
    InvalidArguments,
    PermanentError,
    RetryableError,
    Snooze,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TooLarge,
)
from api_shared.job import Reason
from api_shared.worker.job_process import ResultNotEncodable, ResultTooLarge
from api_shared.worker.job_process.exit import Raised, qualified_name
from api_shared.worker.run.execute_in_process import RemoteError
from api_shared.worker.run.outcome import MAX_MESSAGE, MAX_TRACEBACK, Snoozed, failure, snoozed


class Args(BaseModel):
    pass


CONTRACT = Contract("t", Args, int, permanent=(LookupError, TimeLimitExceeded))
LENIENT = Contract("t", Args, int)


def raised_remotely(*mro: str) -> RemoteError:
    return RemoteError(Raised(mro[0], "gone", "Traceback of the process", mro))


@pytest.mark.parametrize(
    ("error", "reason", "is_permanent"),
    [
        (ValueError("x"), Reason.ERROR, False),
        (RetryableError("x"), Reason.ERROR, False),
        (PermanentError("x"), Reason.PERMANENT_ERROR, True),
        (
            raised_remotely("m.Bad", "api_shared.errors.PermanentError"),
            Reason.PERMANENT_ERROR,
            True,
        ),
        (KeyError("x"), Reason.PERMANENT_ERROR, True),
        (Discard("x"), Reason.DISCARDED, True),
        (InvalidArguments("t", ["x"]), Reason.INVALID_ARGUMENTS, True),
        (InvalidResult("t", ["x"]), Reason.INVALID_RESULT, True),
        (TooLarge("x", 2, 1), Reason.INVALID_RESULT, True),
        (raised_remotely(qualified_name(ResultTooLarge)), Reason.INVALID_RESULT, True),
        (raised_remotely(qualified_name(ResultNotEncodable)), Reason.INVALID_RESULT, True),
        (SoftTimeLimitExceeded(1), Reason.TIME_LIMIT, False),
        (TimeLimitExceeded(1), Reason.PERMANENT_ERROR, True),
        (raised_remotely("builtins.OSError"), Reason.ERROR, False),
        (raised_remotely("m.Lost", "builtins.LookupError"), Reason.PERMANENT_ERROR, True),
    ],
)
def test_each_error_has_its_reason_and_is_retried_or_not(
    error: Exception, reason: Reason, is_permanent: bool
) -> None:
    failed = failure(error, CONTRACT)
    assert (failed.error.reason, failed.permanent) == (reason, is_permanent)
    assert failed.exception is error


def test_a_time_limit_is_retried_unless_the_contract_calls_it_permanent() -> None:
    assert not failure(TimeLimitExceeded(1), LENIENT).permanent


def test_an_error_of_another_process_keeps_its_name_and_traceback() -> None:
    error = failure(raised_remotely("m.Lost"), CONTRACT).error
    assert (error.type, error.message, error.traceback) == (
        "m.Lost",
        "gone",
        "Traceback of the process",
    )


def test_a_message_is_bounded_and_its_traceback_keeps_the_end() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError, match="x") as raised:
        deep(200)
    error = failure(raised.value, CONTRACT).error
    assert len(error.message) == MAX_MESSAGE
    assert len(error.traceback) <= MAX_TRACEBACK


def test_text_that_is_no_utf8_is_mended() -> None:
    error = failure(ValueError("a\ud800b"), CONTRACT).error
    assert error.message == "a?b"
    assert error.traceback.encode()


def test_an_error_whose_text_raises_is_told_all_the_same() -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    error = failure(Shy(), CONTRACT).error
    assert "cannot be shown" in error.message
    assert error.type.endswith("Shy")


def test_a_snooze_says_what_the_job_waits_for() -> None:
    assert snoozed(Snooze(5, "the server asks for a rest\ud800")) == Snoozed(
        5, "the server asks for a rest?"
    )


def test_a_chain_of_errors_is_told_whole() -> None:
    with pytest.raises(ValueError, match="after") as raised:
        try:
            raise OSError("before")
        except OSError as cause:
            raise ValueError("after") from cause
    assert "before" in failure(raised.value, CONTRACT).error.traceback
