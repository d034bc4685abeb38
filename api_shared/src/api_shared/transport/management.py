"""A client of RabbitMQ's management API, for what no AMQP client can do, such as making a vhost."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from api_shared.errors import ServerError

SHOWN_BYTES = 300
"""The length of an answer that an error shows."""


class ManagementRefused(ServerError):
    """The management API answered with another status than success."""

    def __init__(self, request: str, status: int, answer: bytes) -> None:
        self.request = request
        self.status = status
        super().__init__(
            f"RabbitMQ's management API answers {status} to {request}: {answer[:SHOWN_BYTES]!r}"
        )


class Management:
    """
    A blocking client: its requests are few and small.

        management = Management("http://guest:guest@localhost:15672")
        queues = management("GET", "queues/%2F")

    The login is that of the URL, else `user` and `password`.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 30,
    ) -> None:
        parts = urlsplit(url)
        self.user = unquote(parts.username or "") or user or "guest"
        secret = unquote(parts.password or "") or password or "guest"
        self._is_https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "localhost", parts.port
        self._base = f"{parts.path.rstrip('/')}/api"
        self._timeout_s = timeout_s
        self._headers = {
            "Authorization": f"Basic {b64encode(f'{self.user}:{secret}'.encode()).decode()}",
            "Content-Type": "application/json",
        }

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """
        The JSON of the answer, None if it is empty. `path` is below `/api`, its parts quoted.

        Raises `ManagementRefused`; OSError and `http.client.HTTPException` if there is no answer;
        ValueError if the answer is not JSON.
        """
        text = None if body is None else json.dumps(body)
        connect = http.client.HTTPSConnection if self._is_https else http.client.HTTPConnection
        connection = connect(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, f"{self._base}/{path}", text, self._headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise ManagementRefused(f"{method} {path}", response.status, answer)
        return json.loads(answer) if answer else None

    def make_vhost(self, name: str) -> None:
        """Make a vhost with all rights for this user, unless it exists."""
        vhost = quote(name, safe="")
        self("PUT", f"vhosts/{vhost}", {})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self("PUT", f"permissions/{vhost}/{quote(self.user, safe='')}", rights)
