"""The mapping of a model server's answers to errors: those that a retry may fix, and others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.errors import PermanentError, RetryableError
from workers_general.llm.backends.error_mapping import map_error, map_response, retry_after_s
from workers_general.llm.errors import (
    AuthenticationError,
    ContextOverflow,
    LLMClientError,
    LLMError,
    LLMServerError,
    RateLimitError,
    SamplingFailed,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SERVER = "http://llm:8080"


def mapped(status: int, document: Any = None, **headers: str) -> LLMError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return map_response(SERVER, status, named, json.dumps(document).encode(), now=NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, LLMServerError),
        (425, LLMServerError),
        (429, RateLimitError),
        (500, LLMServerError),
        (502, LLMServerError),
        (503, LLMServerError),
        (504, LLMServerError),
        (400, LLMClientError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, LLMClientError),
        (413, LLMClientError),
        (422, LLMClientError),
        (501, LLMClientError),
        (302, LLMClientError),
    ],
)
def test_a_status_says_whether_a_retry_may_fix_it(status: int, kind: type[LLMError]) -> None:
    error = mapped(status, {"error": {"message": "no", "code": status, "type": "t"}})
    assert type(error) is kind
    retryable = kind in (LLMServerError, RateLimitError)
    assert isinstance(error, RetryableError if retryable else PermanentError)
    assert str(error).startswith(f"{SERVER}: ")
    assert str(status) in str(error)


def test_vllms_401_is_a_text_and_no_envelope() -> None:
    assert isinstance(mapped(401, {"error": "Unauthorized"}), AuthenticationError)


def test_503_with_retry_after_is_a_wish_to_be_left_alone_and_without_it_a_failure() -> None:
    error = mapped(503, {"error": {"message": "busy"}}, retry_after="7")
    assert isinstance(error, RateLimitError)
    assert error.retry_after_s == 7
    assert type(mapped(503, {"error": {"message": "Loading model"}})) is LLMServerError


def test_a_quota_that_is_used_up_is_no_rate_limit() -> None:
    envelope = {"error": {"message": "x", "type": "insufficient_quota", "code": None}}
    error = mapped(429, envelope)
    assert isinstance(error, LLMClientError)
    assert "billing" in str(error)


@pytest.mark.parametrize(
    ("error", "sizes"),
    [
        (
            {"type": "exceed_context_size_error", "n_prompt_tokens": 2519, "n_ctx": 256},
            (2519, 256),
        ),
        (
            {
                "message": "This model's maximum context length is 2048 tokens. However, your "
                "request has 3000 input tokens. Please reduce the length. "
                "(parameter=input_tokens, value=3000)",
                "type": "BadRequestError",
                "param": "input_tokens",
            },
            (3000, 2048),
        ),
        (
            {
                "message": "This model's maximum context length is 16384 tokens. However, you "
                "requested 122946 tokens (112946 in the messages, 10000 in the completion)."
            },
            (112946, 16384),
        ),
        ({"code": "context_length_exceeded", "message": "too long"}, (None, None)),
    ],
    ids=["llama.cpp", "vLLM", "vLLM with a completion", "OpenAI"],
)
def test_a_prompt_over_the_context_is_reported_with_its_sizes(
    error: dict[str, Any], sizes: tuple[int | None, int | None]
) -> None:
    found = mapped(400, {"error": {"code": 400, **error}})
    assert isinstance(found, ContextOverflow)
    assert (found.prompt_tokens, found.context_tokens) == sizes


def test_output_that_missed_its_format_is_a_sampling_failure() -> None:
    message = "The model produced output that does not match the expected peg-native format"
    error = map_error(SERVER, {"code": 500, "message": message, "type": "server_error"})
    assert isinstance(error, SamplingFailed)
    assert type(map_error(SERVER, {"code": 500, "message": "out of memory"})) is LLMServerError


def test_what_a_server_quotes_of_the_prompt_is_not_repeated() -> None:
    secret = "the patient's name is Ada and her illness is a long one"
    said = f"[{{'type': 'string_type', 'loc': ('body', 'stop'), 'input': \"{secret}\"}}]"
    assert "Ada" not in str(mapped(400, {"error": {"message": said}}))


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e9", "9999999999", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_is_none_is_ignored(value: str) -> None:
    assert retry_after_s(value, now=NOW) is None


@given(st.integers(0, 10**8))
def test_a_retry_after_is_seconds_or_a_date(seconds: int) -> None:
    assert retry_after_s(str(seconds), now=NOW) == seconds
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(date, now=NOW) == seconds


def test_a_date_that_has_passed_is_now() -> None:
    date = format_datetime(NOW - timedelta(days=1), usegmt=True)
    assert retry_after_s(date, now=NOW) == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
envelopes = st.dictionaries(
    st.sampled_from(["message", "type", "code", "n_ctx", "n_prompt_tokens", "param"]), json_values
)


@given(
    st.integers(300, 599),
    json_values | envelopes.map(lambda error: {"error": error}),
    st.text(max_size=20),
)
def test_whatever_a_server_says_becomes_an_error_of_ours(
    status: int, document: Any, retry_after: str
) -> None:
    error = mapped(status, document, retry_after=retry_after)
    assert isinstance(error, LLMError)
    assert len(str(error)) < 700


@given(st.integers(300, 599), st.binary(max_size=100))
def test_a_body_that_is_no_json_becomes_an_error_too(status: int, body: bytes) -> None:
    assert isinstance(map_response(SERVER, status, {}, body, now=NOW), LLMError)
