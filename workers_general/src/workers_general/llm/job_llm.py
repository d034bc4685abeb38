"""The model for one job: each call is paid for once, passes the rate gate, and is counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from random import Random
from typing import Any

from pydantic import TypeAdapter
from taskiq import Context, TaskiqDepends

from api_shared.client.job_broker import JobBroker
from api_shared.worker.context import JobContext
from workers_general.llm.backends.media import audio_type, image_type
from workers_general.llm.call_journal import CallJournal, call_key, derive_seed
from workers_general.llm.errors import LLMServerError, ModelRequired, SamplingFailed
from workers_general.llm.json_answers import JsonAsker
from workers_general.llm.limits.rate_gate import gated_call, gated_query
from workers_general.llm.models import Models, open_models
from workers_general.llm.protocol import (
    LLM,
    Backend,
    Capabilities,
    ChatAnswer,
    ChatRequest,
    ImageRequest,
    JsonAnswer,
    JsonSchema,
    Message,
    OnText,
    Parameters,
    SpeechRequest,
    Stored,
    Usage,
)

SAMPLING_TRIES = 3
MODELS = "llm_models"
"""The name of a worker's `Models` in the broker's state."""

_CHAT = TypeAdapter(ChatAnswer)
_FILES = TypeAdapter(tuple[Stored, ...])


async def llm_of_job(
    job: JobContext = TaskiqDepends(), context: Context = TaskiqDepends()
) -> AsyncGenerator[LLM, None]:
    """`llm: LLM = TaskiqDepends(llm_of_job)`."""
    broker = context.broker
    assert isinstance(broker, JobBroker)  # noqa: S101 - no other runs jobs
    worker_models = broker.state.get(MODELS)
    if isinstance(worker_models, Models):
        yield JobLLM(job, worker_models)
        return
    settings, shared = broker.runtime.settings, broker.is_worker_process
    async with open_models(settings, shared=shared) as models:
        yield JobLLM(job, models)


class JobLLM(LLM):
    """See `LLM`, the protocol."""

    def __init__(self, job: JobContext, models: Models, *, rng: Random | None = None) -> None:
        self._job = job
        self._models = models
        self._journal = CallJournal(job, models.settings.storage_url)
        self._json = JsonAsker(self.chat, job, tries=models.settings.llm_json_tries)
        self._rng = rng or Random()  # noqa: S311 - jitter

    @property
    def backend(self) -> str:
        return "extractive" if self._models.chat is None else self._models.chat.name

    @property
    def available(self) -> bool:
        return self._models.chat is not None

    async def chat(
        self, step: str, request: ChatRequest, *, on_text: OnText | None = None
    ) -> ChatAnswer:
        key = call_key(step, asdict(request))
        if (kept := await self._journal.recall(key)) is not None:
            answer = _CHAT.validate_python(kept)
            if on_text is not None and answer.text:
                await on_text(answer.text)
            return answer
        backend = self._chat
        parameters = with_defaults(request.parameters, self._default_parameters())
        sent = replace(request, parameters=parameters)
        async with self._gated_call(backend):
            answer = await _chat_with_retries(backend, sent, key, on_text)
        await self._journal.record(key, _CHAT.dump_python(answer, mode="json"), _used(answer.usage))
        return answer

    async def chat_json(self, step: str, request: ChatRequest, schema: JsonSchema) -> JsonAnswer:
        return await self._json.ask(step, request, schema, server=self._chat.server)

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        backend = self._chat
        async with self._gated_query(backend):
            return await backend.count_tokens(messages)

    async def capabilities(self) -> Capabilities:
        backend = self._chat
        async with self._gated_query(backend):
            return await backend.capabilities(lambda: self._gated_call(backend))

    async def image(self, step: str, request: ImageRequest) -> tuple[Stored, ...]:
        backend = self._required(self._models.images, "LLM_IMAGE_SERVER_URL")

        async def make() -> tuple[tuple[Stored, ...], Mapping[str, int]]:
            answer = await backend.image(request)
            files = []
            for number, data in enumerate(answer.images):
                if (kind := image_type(data)) is None:
                    raise LLMServerError(backend.server, "what it sent as an image is not one")
                files.append(
                    await self._journal.store_file(
                        f"image-{number}", kind.suffix, kind.content_type, data
                    )
                )
            return tuple(files), {"images": len(files), **_used(answer.usage)}

        return await self._files(step, {"image": asdict(request)}, backend, make)

    async def speech(self, step: str, request: SpeechRequest) -> Stored:
        backend = self._required(self._models.speech, "LLM_SPEECH_SERVER_URL")

        async def make() -> tuple[tuple[Stored, ...], Mapping[str, int]]:
            answer = await backend.speech(request)
            if (kind := audio_type(answer.audio)) is None:
                raise LLMServerError(backend.server, "what it sent as audio is not audio")
            file = await self._journal.store_file(
                "speech", kind.suffix, kind.content_type, answer.audio
            )
            return (file,), {"llm_calls": 1, "speech_characters": len(request.text)}

        (file,) = await self._files(step, {"speech": asdict(request)}, backend, make)
        return file

    async def _files(
        self,
        step: str,
        request: Mapping[str, Any],
        backend: Backend,
        make: Callable[[], Awaitable[tuple[tuple[Stored, ...], Mapping[str, int]]]],
    ) -> tuple[Stored, ...]:
        """The files are stored before the journal refers to them."""
        key = call_key(step, request)
        if (kept := await self._journal.recall(key)) is not None:
            return _FILES.validate_python(kept)
        async with self._gated_call(backend):
            files, usage = await make()
        await self._journal.record(key, _FILES.dump_python(files, mode="json"), usage)
        return files

    def _gated_call(self, backend: Backend) -> AbstractAsyncContextManager[None]:
        patience_s = self._models.settings.llm_patience_s
        return gated_call(
            self._models.admission, backend.server, patience_s=patience_s, rng=self._rng
        )

    def _gated_query(self, backend: Backend) -> AbstractAsyncContextManager[None]:
        patience_s = self._models.settings.llm_patience_s
        return gated_query(
            self._models.admission, backend.server, patience_s=patience_s, rng=self._rng
        )

    @property
    def _chat(self) -> Backend:
        return self._required(self._models.chat, "LLM_SERVER_URL")

    def _required(self, backend: Backend | None, setting: str) -> Backend:
        if backend is None:
            raise ModelRequired(self._job.task, setting)
        return backend

    def _default_parameters(self) -> Parameters:
        settings = self._models.settings
        return Parameters(
            settings.llm_temperature,
            settings.llm_top_p,
            settings.llm_max_tokens,
            settings.llm_seed,
            settings.llm_stop,
        )


async def _chat_with_retries(
    backend: Backend, request: ChatRequest, key: str, on_text: OnText | None
) -> ChatAnswer:
    """After a sampling failure, try again with another seed, unless text was already streamed."""
    streamed = False

    async def stream(text: str) -> None:
        nonlocal streamed
        streamed = True
        assert on_text is not None  # noqa: S101 - `stream` is passed only then
        await on_text(text)

    for number in range(1, SAMPLING_TRIES + 1):
        try:
            return await backend.chat(request, on_text=stream if on_text else None)
        except SamplingFailed:
            if streamed or number == SAMPLING_TRIES:
                raise
            parameters = replace(request.parameters, seed=derive_seed(key, number))
            request = replace(request, parameters=parameters)
    raise AssertionError("unreachable")


def with_defaults(given: Parameters, defaults: Parameters) -> Parameters:
    """`given`, completed from `defaults`."""
    return Parameters(
        temperature=defaults.temperature if given.temperature is None else given.temperature,
        top_p=defaults.top_p if given.top_p is None else given.top_p,
        max_tokens=defaults.max_tokens if given.max_tokens is None else given.max_tokens,
        seed=defaults.seed if given.seed is None else given.seed,
        stop=given.stop or defaults.stop,
    )


def _used(usage: Usage) -> dict[str, int]:
    return {"llm_calls": 1, **asdict(usage)}
