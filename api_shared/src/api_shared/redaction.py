"""
Redaction of secrets from error texts, tracebacks and log lines, which many people can read.

Two rules find secrets. The secrets of the settings are registered and found exactly
(`register_secret`). Other text is redacted if it looks like a secret: logins in URLs,
`Authorization`, parameters with the name of a secret, keys of well-known shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

MASK: Final = "***"

MIN_LENGTH: Final = 6
"""A shorter secret is not registered: it would be found in ordinary words."""

_NAMES = r"[\w.-]*(?:passw(?:or)?d|passwd|secret|token|api[_-]?key|access[_-]?key|signature)"

_PATTERNS: Final = (
    # user:password@ in a URL; the last @ counts, for a password may hold one that is not quoted.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/?#:@'\"<>]*:)[^\s/?#'\"<>]*@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:[a-z]+\s+)?)[^\s'\",}]+"),
     rf"\1{MASK}"),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"), rf"\1{MASK}"),
    # name=value as in a query or a connection string, and "name": "value" as in JSON.
    (re.compile(rf"(?i)(?<![\w.-])({_NAMES}=['\"]?)[^\s&;,'\"<>)]+"), rf"\1{MASK}"),
    (re.compile(rf"(?i)(['\"]{_NAMES}['\"]\s*:\s*)(['\"])(?:(?!\2)[^\\\n]|\\.)*\2?"),
     rf"\1\2{MASK}\2"),
    (re.compile(r"\b(?:sk-[\w-]{16,}|gh[opsur]_\w{20,}|hf_\w{20,}|AKIA[0-9A-Z]{16})"), MASK),
)  # fmt: skip

_hidden: set[str] = set()
_literal: re.Pattern[str] | None = None


def register_secret(secrets: Iterable[str]) -> None:
    """Hide `secrets` in this process from now on; of a URL, its secret parts."""
    global _literal  # noqa: PLW0603 - like logging: one for the process, set at its start
    _hidden.update(form for secret in secrets for form in _forms(secret))
    if _hidden:
        longest_first = sorted(_hidden, key=lambda form: (-len(form), form))
        _literal = re.compile("|".join(map(re.escape, longest_first)))


def redact(text: str) -> str:
    """`text` with `***` for each secret in it."""
    if _literal is not None:
        text = _literal.sub(MASK, text)
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def _forms(secret: str) -> Iterable[str]:
    """The forms of a secret: as it is, quoted in a URL or not, and in JSON or a `repr`."""
    try:
        login = urlsplit(secret).netloc.rpartition("@")[0] if "://" in secret else None
    except ValueError:
        login = None
    plain = secret if "://" not in secret else (login or "").partition(":")[2]
    for form in {plain, unquote(plain)}:
        if len(form) >= MIN_LENGTH:
            yield from {form, json.dumps(form)[1:-1], repr(form)[1:-1]}
