"""
The backend of any server with OpenAI's API: https://platform.openai.com/docs/api-reference.

What differs between servers is probed, not assumed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import perf_counter
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from workers_general.llm.backends.chat_api import ChatReader, chat_body
from workers_general.llm.backends.client import ModelServer
from workers_general.llm.backends.error_mapping import NOT_OFFERED
from workers_general.llm.errors import (
    ContextOverflow,
    InvalidInputError,
    LLMClientError,
    LLMError,
    LLMServerError,
)
from workers_general.llm.protocol import (
    MAX_SPEECH_CHARACTERS,
    Admitted,
    Backend,
    Capabilities,
    ChatAnswer,
    ChatRequest,
    ImageAnswer,
    ImageRequest,
    Message,
    OnText,
    Parameters,
    Probed,
    SpeechAnswer,
    SpeechRequest,
    Usage,
)

CHAT = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
SPEECH = "/v1/audio/speech"
_HELLO = ChatRequest((Message("user", "Say yes."),), Parameters(max_tokens=1))


class _Meta(BaseModel):
    n_ctx: int | None = None


class _Model(BaseModel):
    """`max_model_len` is vLLM's, `meta.n_ctx` llama.cpp's, `context_length` some gateways'."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None
    meta: _Meta | None = None

    @property
    def context_tokens(self) -> int | None:
        of_llamacpp = self.meta.n_ctx if self.meta else None
        return self.max_model_len or self.context_length or of_llamacpp


class _Models(BaseModel):
    data: list[_Model] = []


class _Image(BaseModel):
    b64_json: str


class _ImageUsage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0


class _Images(BaseModel):
    data: list[_Image]
    usage: _ImageUsage | None = None


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """The way a server counts the tokens of a prompt: its path, and the field of the count."""

    path: str
    field: str


COUNT_OF_LLAMACPP = TokenCounter("/v1/chat/completions/input_tokens", "input_tokens")
COUNT_OF_VLLM = TokenCounter("/tokenize", "count")


class OpenAIBackend(Backend):
    """If `model` is None, it is the first model that the server lists."""

    name: ClassVar[str] = "openai"
    counters: ClassVar[Sequence[TokenCounter]] = (COUNT_OF_LLAMACPP, COUNT_OF_VLLM)
    """Tried in this order; the first that the server has is kept."""

    def __init__(self, server: ModelServer, *, model: str | None = None) -> None:
        self._server = server
        self._model = model
        self._listed: str | None = None
        self._counters = tuple(self.counters)
        self._limit_field = "max_tokens"
        self._image_options = {"response_format": "b64_json"}
        self._streams = False
        self._capabilities: Capabilities | None = None
        self._probing: asyncio.Task[Capabilities] | None = None

    @property
    def server(self) -> str:
        return self._server.name

    async def chat(self, request: ChatRequest, *, on_text: OnText | None = None) -> ChatAnswer:
        model, limit_field = await self.model(), self._limit_field
        try:
            return await self._chat(request, on_text, model, limit_field)
        except LLMClientError as error:
            if not self._learns(error, model, limit_field):
                raise
            return await self._chat(request, on_text, await self.model(), self._limit_field)

    def _learns(self, error: LLMClientError, model: str | None, limit_field: str) -> bool:
        """
        Whether a call that sent this `model` and `limit_field`, made again, differs in what the
        server refused. Another call may have learned it in the meantime.
        """
        if limit_field == "max_tokens" and error.param == "max_tokens":
            self._limit_field = "max_completion_tokens"  # OpenAI's reasoning models need it
            return True
        if model != self._model and error.status == HTTPStatus.NOT_FOUND:
            if self._listed == model:
                self._listed = self._capabilities = None  # it serves another model now
            return True
        return False

    async def _chat(
        self, request: ChatRequest, on_text: OnText | None, model: str | None, limit_field: str
    ) -> ChatAnswer:
        body = chat_body(request, model)
        if "max_tokens" in body:
            body[limit_field] = body.pop("max_tokens")
        reader = ChatReader(self.server, on_text)
        ended = await self._server.stream(CHAT, body, reader.add)
        self._streams = reader.streamed
        return reader.answer(ended=ended)

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        sent = [{"role": each.role, "content": each.content} for each in messages]
        for counter in self._counters:
            try:
                answer = await self._server.post(
                    counter.path, {"model": await self.model(), "messages": sent}
                )
            except ContextOverflow as error:
                if error.prompt_tokens is not None:
                    return error.prompt_tokens
                raise
            except LLMClientError as error:
                if error.status not in NOT_OFFERED:
                    raise
                self._counters = tuple(each for each in self._counters if each != counter)
                continue
            count = answer.get(counter.field) if isinstance(answer, dict) else None
            if not isinstance(count, int):
                raise LLMServerError(self.server, f"its token count has no {counter.field!r}")
            return count
        return None

    async def image(self, request: ImageRequest) -> ImageAnswer:
        options = self._image_options
        body = {
            "model": self._model,
            "prompt": request.prompt,
            "size": request.size,
            "n": request.n,
            **options,
        }
        try:
            answer = await self._server.post(IMAGES, _without_none(body))
        except LLMClientError as error:
            if not options or error.param != "response_format":
                raise
            self._image_options = {}  # OpenAI's newer models always send base64, and refuse this
            return await self.image(request)
        try:
            images = _Images.model_validate(answer)
            files = tuple(base64.b64decode(each.b64_json, validate=True) for each in images.data)
        except (ValidationError, binascii.Error):
            raise LLMServerError(self.server, "the answer holds no images") from None
        if not files:
            raise LLMServerError(self.server, "the answer holds no images")
        used = images.usage or _ImageUsage()
        return ImageAnswer(files, self._model or "", Usage(used.input_tokens, used.output_tokens))

    async def speech(self, request: SpeechRequest) -> SpeechAnswer:
        if len(request.text) > MAX_SPEECH_CHARACTERS:
            raise InvalidInputError(
                self.server,
                f"{len(request.text):,} characters are too many for one call of speech: "
                f"at most {MAX_SPEECH_CHARACTERS:,}",
            )
        body = {
            "model": self._model,
            "input": request.text,
            "voice": request.voice,
            "response_format": request.format,
        }
        audio = await self._server.post_for_file(SPEECH, _without_none(body))
        return SpeechAnswer(audio, self._model or "")

    async def capabilities(self, admitted: Admitted = nullcontext) -> Capabilities:
        """Probed once, however many ask: a few calls, of at most one token each."""
        if self._capabilities is not None:
            return self._capabilities
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe_capabilities(admitted))
            self._probing.add_done_callback(self._probed)
        return await asyncio.shield(self._probing)  # who goes away leaves it to the others

    def _probed(self, probing: asyncio.Task[Capabilities]) -> None:
        self._probing = None
        if not probing.cancelled() and probing.exception() is None:
            self._capabilities = probing.result()

    async def _probe_capabilities(self, admitted: Admitted) -> Capabilities:
        schema = {"type": "object", "properties": {}, "additionalProperties": False}
        both = replace(_HELLO, schema=schema, logprobs=True)
        answer = await self._chat_if_accepted(both, admitted)
        schema_output = answer is not None
        if answer is None:
            answer = await self._chat_if_accepted(replace(_HELLO, logprobs=True), admitted)
        return Capabilities(
            schema_output=schema_output,
            logprobs=answer is not None and answer.logprobs is not None,
            token_count=await self.count_tokens(_HELLO.messages) is not None,
            streaming=self._streams,
            images=await self._has(IMAGES),
            speech=await self._has(SPEECH),
            context_tokens=await self._context_tokens(),
        )

    async def probe(self) -> Probed:
        """Generates one token: only a model that is loaded can."""
        started = perf_counter()
        answer = await self.chat(_HELLO)
        model = answer.model or await self.model() or "an unnamed model"
        return Probed(model, f"answered in {perf_counter() - started:.2f} s")

    async def model(self) -> str | None:
        """LLM_MODEL, else the first model listed; None if the server lists none, or needs none."""
        if self._model is not None:
            return self._model
        if self._listed is None and (models := await self._models()):
            self._listed = models[0].id
        return self._listed

    async def _context_tokens(self) -> int | None:
        model = await self.model()
        return next(
            (each.context_tokens for each in await self._models() if each.id == model), None
        )

    async def _models(self) -> list[_Model]:
        try:
            return _Models.model_validate(await self._server.get("/v1/models")).data
        except ValidationError:
            raise LLMServerError(self.server, "/v1/models lists no models") from None
        except LLMClientError as error:
            if error.status in NOT_OFFERED:
                return []
            raise

    async def _chat_if_accepted(
        self, request: ChatRequest, admitted: Admitted
    ) -> ChatAnswer | None:
        try:
            async with admitted():
                return await self.chat(request)
        except LLMClientError as error:
            if error.status in (400, 422):
                return None
            raise

    async def _has(self, path: str) -> bool:
        """An empty request costs nothing: a server that has the path refuses it as invalid."""
        try:
            await self._server.post_for_file(path, {})
        except LLMClientError as error:
            return error.status not in NOT_OFFERED
        except LLMError:
            return False
        return True


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
