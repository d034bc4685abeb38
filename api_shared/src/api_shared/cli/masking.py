"""URLs and settings without their secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from api_shared.redaction import MASK

_SECRET_PARAMETER = re.compile(r"passw|secret|token|key$|authmechanismproperties", re.IGNORECASE)


def masked_url(url: str) -> str:
    """
    The URL with `***` for its password, and for parameters that carry one.

    A text with an `@` that is not a URL is masked up to the `@`.
    """
    try:
        parts = urlsplit(url)
        netloc = parts.netloc
    except ValueError:
        return MASK
    login, at, host = netloc.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        netloc = f"{user}{colon and ':' + MASK}@{host}"
    elif "@" in url:
        return f"{MASK}{url.rpartition('@')[1]}{url.rpartition('@')[2]}"
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(_SECRET_PARAMETER.search(name) for name, _ in pairs):
        pairs = [(name, MASK if _SECRET_PARAMETER.search(name) else v) for name, v in pairs]
        query = urlencode(pairs, safe="*")
    return urlunsplit(parts._replace(netloc=netloc, query=query))
