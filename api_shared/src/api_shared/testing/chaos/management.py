"""RabbitMQ's management API: what no AMQP client can do, such as making a vhost."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlsplit


class ManagementRefused(AssertionError):
    """An answer that is no success."""

    def __init__(self, request: str, status: int, answer: bytes) -> None:
        self.request = request
        self.status = status
        super().__init__(f"{request}: {status} {answer!r}")


class Management:
    """RabbitMQ's management API, blocking: little is asked of it."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        login = f"{self._parts.username or 'guest'}:{self._parts.password or 'guest'}"
        self._headers = {
            "Authorization": f"Basic {b64encode(login.encode()).decode()}",
            "Content-Type": "application/json",
        }
        self.user = self._parts.username or "guest"

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """`path` below /api, quoted. Raises `ManagementRefused`."""
        connection = http.client.HTTPConnection(
            self._parts.hostname or "127.0.0.1", self._parts.port, timeout=30
        )
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/api/{path}", text, self._headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ManagementRefused(f"{method} {path}", response.status, answer[:300])
        return json.loads(answer) if answer else None

    def make_vhost(self, name: str) -> None:
        """With all rights for this user; harmless where it exists."""
        self("PUT", f"vhosts/{name}", {})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self("PUT", f"permissions/{name}/{quote(self.user)}", rights)
