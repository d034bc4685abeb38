"""
The mapping of a server's answers to `LLMError`s.

Sources: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html,
https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from workers_general.llm.errors import (
    AuthenticationError,
    ContextOverflow,
    LLMClientError,
    LLMError,
    LLMServerError,
    RateLimitError,
    SamplingFailed,
)

NOT_OFFERED = frozenset({404, 405, 501})
"""The statuses with which servers answer for a path that they do not have."""

RETRYABLE = frozenset({408, 425, 429})
"""Statuses of client errors after which the same request may succeed later."""

_OVERFLOW = re.compile(
    r"maximum context length (?:is|of) (\d+)(?:.*?(\d+) (?:input tokens|in the messages))?",
    re.DOTALL,
)
_QUOTED = re.compile(r"(['\"`])(?:(?!\1).){40,}\1", re.DOTALL)
MAX_QUOTED = 200


def map_response(
    server: str, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> LLMError:
    """The error of an answer that is not a success; `now` is timezone-aware."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    error = document.get("error", document) if isinstance(document, dict) else None
    wait_s = retry_after_s(headers.get("retry-after"), now=now)
    if status == 503 and wait_s is not None:
        return RateLimitError(server, status, wait_s)
    return map_error(server, error, status=status, retry_after_s=wait_s)


def map_error(
    server: str, error: Any, *, status: int | None = None, retry_after_s: float | None = None
) -> LLMError:
    """
    The error of an envelope: `{"message", "type", "code", ...}`, or a text (vLLM's 401).

    Within a stream there is no status: the envelope's own `code` is used instead.
    """
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    message = _text(fields.get("message"))
    kind = _text(fields.get("type"))
    code = fields.get("code")
    status = status or _whole(code) or 500
    words = f"{status}{', ' + kind[:60] if kind else ''}"
    if status == 429 and "insufficient_quota" in (code, kind):
        why = "the account's quota is used up: check its billing"
        return LLMClientError(server, why, status=status, kind="insufficient_quota")
    if status == 429:
        return RateLimitError(server, status, retry_after_s)
    if status in (401, 403):
        return AuthenticationError(server, status)
    if overflow := _overflow(server, fields, code, kind, message):
        return overflow
    if 400 <= status < 500 and status not in RETRYABLE:
        text = f"refuses the request (status {words}): {_bounded(message)}"
        param = _text(fields.get("param"))
        return LLMClientError(server, text, status=status, kind=kind, param=param)
    if status == 501:
        text = f"does not offer this (status {words}): use another server for it"
        return LLMClientError(server, text, status=status, kind=kind)
    if status < 400:
        text = f"redirects (status {status}): set the URL to which it redirects"
        return LLMClientError(server, text, status=status)
    if status == 500 and "does not match the expected" in message:
        text = f"the output did not keep to its format (status {words})"
        return SamplingFailed(server, text, status=status)
    text = f"failed (status {words}): {_bounded(message)}"
    return LLMServerError(server, text, status=status)


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """
    Seconds from a Retry-After, which is seconds or an HTTP date; None for anything else.

    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def _overflow(
    server: str, fields: Mapping[str, Any], code: Any, kind: str, message: str
) -> ContextOverflow | None:
    if kind == "exceed_context_size_error":
        return ContextOverflow(
            server, _whole(fields.get("n_prompt_tokens")), _whole(fields.get("n_ctx"))
        )
    if found := _OVERFLOW.search(message[:2000]):
        return ContextOverflow(server, _whole(found[2]), _whole(found[1]))
    if code == "context_length_exceeded":
        return ContextOverflow(server, None, None)
    return None


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _bounded(message: str) -> str:
    """The server's message, without long quotes: it may quote what it was sent."""
    text = " ".join(_QUOTED.sub("...", message[:2000]).split())
    return text[:MAX_QUOTED] or "it gives no reason"
