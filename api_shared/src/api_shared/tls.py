"""TLS options of server URLs, which each driver reads by its own names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

AMQP_OPTIONS: Final = {"ca_file": "cafile", "cert_file": "certfile"}
MONGODB_OPTIONS: Final = {"ca_file": "tlsCAFile", "cert_file": "tlsCertificateKeyFile"}
REDIS_OPTIONS: Final = {"ca_file": "ssl_ca_certs", "cert_file": "ssl_certfile"}

_UNTRUSTED = re.compile(r"certificate verify failed: ([^(]{1,200})", re.IGNORECASE)


def with_options(url: str, options: Mapping[str, str]) -> str:
    """The URL with `options` in its query."""
    if not options:
        return url
    if not urlsplit(url).path and "?" not in url:
        url += "/"
    query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{query}"


def why_untrusted(error: BaseException, setting: str) -> str | None:
    """A sentence if the server's certificate was refused, otherwise None."""
    found: BaseException | None = error
    seen: set[int] = set()  # drivers raise errors again that they kept: a chain may be a circle
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if match := _UNTRUSTED.search(str(found)):
            return (
                f"its certificate is not trusted ({match[1].strip()}): name the CA that signed it "
                f"in {setting}"
            )
        found = found.__cause__ or found.__context__
    return None
