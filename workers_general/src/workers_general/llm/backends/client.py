"""The HTTP client of a model server: the only place where httpx is called for it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from api_shared.settings import Settings
from workers_general.llm.backends.error_mapping import map_response
from workers_general.llm.backends.sse import EventReader, EventTooLarge
from workers_general.llm.errors import LLMConnectionError, LLMError, LLMServerError, LLMTimeoutError

MEGABYTE = 1024 * 1024
MAX_JSON_BYTES = 64 * MEGABYTE
MAX_STREAM_BYTES = 64 * MEGABYTE
MAX_EVENT_BYTES = 4 * MEGABYTE
MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In seconds; the settings of the same names."""

    connect_s: float
    first_token_s: float
    stall_s: float
    whole_s: float

    @classmethod
    def of(cls, settings: Settings) -> Deadlines:
        return cls(
            settings.llm_connect_timeout_s,
            settings.llm_first_token_timeout_s,
            settings.llm_stall_timeout_s,
            settings.llm_timeout_s,
        )


def new_client() -> httpx.AsyncClient:
    """
    The pool of connections, for all servers of a process and event loop.

    LLM_MAX_IN_FLIGHT limits how many there are at a time, not this pool.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx.AsyncClient(limits=limits, timeout=None, verify=_certificates())  # noqa: S113 - `PhaseTimeout` has the deadlines


class ModelServer:
    """
    A server by its URL, with or without `/v1` at its end.

    Every method raises `LLMError`s. Cancelling one closes its connection: the server stops.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, key: str | None, deadlines: Deadlines
    ) -> None:
        parts = urlsplit(url)
        path = parts.path.rstrip("/").removesuffix("/v1")
        login, _, host = parts.netloc.rpartition("@")
        self.name = urlunsplit((parts.scheme, host, path, "", ""))
        """Without credentials, which httpx would put into its errors and logs."""
        self._headers = {"Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        elif login:
            self._headers["Authorization"] = f"Basic {b64encode(unquote(login).encode()).decode()}"
        self._client = client
        self._deadlines = deadlines

    async def get(self, path: str) -> Any:
        """The answer's JSON."""
        return self._json(await self._whole("GET", path, None, MAX_JSON_BYTES))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer's JSON."""
        return self._json(await self._whole("POST", path, body, MAX_JSON_BYTES))

    async def post_for_file(self, path: str, body: Mapping[str, Any]) -> bytes:
        return await self._whole("POST", path, body, MAX_JSON_BYTES)

    async def stream(
        self, path: str, body: Mapping[str, Any], on_event: Callable[[Any], Awaitable[None]]
    ) -> bool:
        """
        Await `on_event` with the JSON of each event; returns whether the server sent the end.

        A server that cannot stream answers with one JSON document, which is then the only event.
        """
        async with PhaseTimeout(self.name, self._deadlines) as timeout:
            timeout.phase("first token", self._deadlines.first_token_s, "LLM_FIRST_TOKEN_TIMEOUT_S")
            async with self._answer("POST", path, body) as response:
                if "json" in response.headers.get("content-type", ""):
                    timeout.only_whole()
                    await on_event(self._json(await self._read(response, MAX_JSON_BYTES)))
                    return True
                return await self._events(response, timeout, on_event)

    async def _events(
        self,
        response: httpx.Response,
        timeout: PhaseTimeout,
        on_event: Callable[[Any], Awaitable[None]],
    ) -> bool:
        reader, size_bytes = EventReader(max_event_bytes=MAX_EVENT_BYTES), 0
        async for chunk in response.aiter_bytes():
            size_bytes += len(chunk)
            if size_bytes > MAX_STREAM_BYTES:
                raise self._too_large(MAX_STREAM_BYTES)
            try:
                events = reader.feed(chunk)
            except EventTooLarge:
                raise self._too_large(MAX_EVENT_BYTES) from None
            for event in events:
                if event == "[DONE]":
                    return True
                timeout.only_whole()
                await on_event(self._json(event))
                timeout.phase("stall", self._deadlines.stall_s, "LLM_STALL_TIMEOUT_S")
        return False

    async def _whole(
        self, method: str, path: str, body: Mapping[str, Any] | None, max_bytes: int
    ) -> bytes:
        async with (
            PhaseTimeout(self.name, self._deadlines),
            self._answer(method, path, body) as response,
        ):
            return await self._read(response, max_bytes)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> AsyncIterator[httpx.Response]:
        """A successful response, its body not yet read; errors of httpx become `LLMError`s."""
        timeout = httpx.Timeout(None, connect=self._deadlines.connect_s)
        content = None if body is None else json.dumps(body).encode()
        headers = self._headers if body is None else {**self._headers, **_JSON}
        try:
            async with self._client.stream(
                method, self.name + path, content=content, headers=headers, timeout=timeout
            ) as response:
                if not response.is_success:
                    raise await self._error_of(response)
                yield response
        except httpx.ConnectTimeout:
            limit_s = self._deadlines.connect_s
            raise LLMTimeoutError(self.name, "connect", limit_s, "LLM_CONNECT_TIMEOUT_S") from None
        except httpx.ConnectError as error:
            text = (
                f"no connection ({_describe(error)}): is the server up, and LLM_SERVER_URL right?"
            )
            raise LLMConnectionError(self.name, text) from None
        except httpx.HTTPError as error:
            text = f"the connection broke off in the middle of the answer ({_describe(error)})"
            raise LLMConnectionError(self.name, text) from None

    async def _error_of(self, response: httpx.Response) -> LLMError:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ERROR_BYTES:
                break
        return map_response(
            self.name, response.status_code, response.headers, body, now=datetime.now(UTC)
        )

    async def _read(self, response: httpx.Response, max_bytes: int) -> bytes:
        chunks, size_bytes = [], 0
        async for chunk in response.aiter_bytes():
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise self._too_large(max_bytes)
            chunks.append(chunk)
        return b"".join(chunks)

    def _json(self, text: bytes | str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise LLMServerError(self.name, "the answer is not JSON") from None

    def _too_large(self, limit_bytes: int) -> LLMServerError:
        return LLMServerError(self.name, f"the answer is over {limit_bytes:,} bytes")


class PhaseTimeout:
    """The timeouts of one call: of the whole call, and of its present phase."""

    def __init__(self, server: str, deadlines: Deadlines) -> None:
        self._server = server
        self._whole = ("whole", deadlines.whole_s, "LLM_TIMEOUT_S")
        self._phase = self._whole
        self._timeout = asyncio.timeout(None)
        self._end = 0.0

    def phase(self, name: str, limit_s: float, setting: str) -> None:
        """A new phase begins now, with `limit_s` seconds to go."""
        at = asyncio.get_running_loop().time() + limit_s
        self._phase = (name, limit_s, setting) if at < self._end else self._whole
        self._timeout.reschedule(min(at, self._end))

    def only_whole(self) -> None:
        """Only the timeout of the whole call applies: what follows is not the server's time."""
        self._phase = self._whole
        self._timeout.reschedule(self._end)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._end = asyncio.get_running_loop().time() + self._whole[1]
        self.only_whole()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise LLMTimeoutError(self._server, *self._phase) from None


_JSON = {"Content-Type": "application/json"}


@cache
def _certificates() -> SSLContext:
    """Loading them takes 20 ms of CPU."""
    return httpx.create_ssl_context()


def _describe(error: Exception) -> str:
    """Safe to show: httpx's errors describe the connection, not what was sent through it."""
    return f"{type(error).__name__}: {error}"[:200].rstrip(": ")
