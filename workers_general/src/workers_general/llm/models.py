"""The model servers that the settings name, and their admission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from api_shared.settings import Settings
from workers_general.llm.backends.client import Deadlines, ModelServer, new_client
from workers_general.llm.backends.llamacpp import LlamaCppBackend
from workers_general.llm.backends.openai import OpenAIBackend
from workers_general.llm.backends.vllm import VllmBackend
from workers_general.llm.limits.admission import Admission, Limits, LocalAdmission
from workers_general.llm.limits.shared_admission import SharedAdmission
from workers_general.llm.protocol import Backend

BACKENDS: dict[str, type[OpenAIBackend]] = {
    each.name: each for each in (OpenAIBackend, LlamaCppBackend, VllmBackend)
}
"""By the value of LLM_BACKEND. `extractive` is not among them: it needs no server."""


@dataclass(frozen=True, slots=True)
class Models:
    """A backend is None if no server is set for it."""

    chat: Backend | None
    images: Backend | None
    speech: Backend | None
    admission: Admission
    settings: Settings


backend_override: ContextVar[Backend | None] = ContextVar("backend_override", default=None)
"""The backend with which `workers_general.testing.using_model` replaces all servers."""


@asynccontextmanager
async def open_models(settings: Settings, *, shared: bool) -> AsyncIterator[Models]:
    """
    The connections, until the end of the block; no server is called yet.

    `shared`: all workers together keep to the limits of a server, through Redis.
    """
    limits = Limits(
        in_flight=settings.llm_max_in_flight,
        per_minute=settings.llm_requests_per_minute,
        lease_s=settings.lease_s,
        max_closed_s=settings.llm_max_retry_after_s,
    )
    async with AsyncExitStack() as stack:
        admission: Admission = LocalAdmission(limits)
        if shared:
            admission = SharedAdmission(settings, limits)
            stack.push_async_callback(admission.aclose)
        if (override := backend_override.get()) is not None:
            yield Models(override, override, override, admission, settings)
            return
        client = await stack.enter_async_context(new_client())
        yield Models(
            chat=chat_backend(client, settings),
            images=_backend(
                client, settings, settings.llm_image_server_url, settings.llm_image_model
            ),
            speech=_backend(
                client, settings, settings.llm_speech_server_url, settings.llm_speech_model
            ),
            admission=admission,
            settings=settings,
        )


def chat_backend(client: httpx.AsyncClient, settings: Settings) -> Backend | None:
    """None if LLM_BACKEND is `extractive`, or LLM_SERVER_URL is not set."""
    if settings.llm_backend == "extractive" or settings.llm_server_url is None:
        return None
    backend = BACKENDS[settings.llm_backend or OpenAIBackend.name]
    server = _server(client, settings, settings.llm_server_url)
    return backend(server, model=settings.llm_model)


def _backend(
    client: httpx.AsyncClient, settings: Settings, url: SecretStr | None, model: str | None
) -> Backend | None:
    """Images and speech have one API for all servers."""
    url = url or settings.llm_server_url
    return None if url is None else OpenAIBackend(_server(client, settings, url), model=model)


def _server(client: httpx.AsyncClient, settings: Settings, url: SecretStr) -> ModelServer:
    key = None if settings.llm_api_key is None else settings.llm_api_key.get_secret_value()
    return ModelServer(client, url.get_secret_value(), key=key, deadlines=Deadlines.of(settings))
