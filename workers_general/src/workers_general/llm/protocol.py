"""Requests to a model server and its answers: the protocols `Backend` and `LLM`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

JsonSchema = Mapping[str, Any]
"""A JSON Schema (2020-12) as JSON values."""

OnText = Callable[[str], Awaitable[object]]
"""Awaited with each piece of text; while it waits, nothing more is read."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """For each that is None: the setting (LLM_TEMPERATURE, …), else the server's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """
    `schema`: request JSON of this shape; only `LLM.chat_json` also validates the answer.
    `logprobs`: request the log-probability of each token of the answer.
    """

    messages: tuple[Message, ...]
    parameters: Parameters = Parameters()
    schema: JsonSchema | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """`logprob` is a natural logarithm: 0 is certain."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """
    `finish_reason` is the server's: `stop`, or `length` if the text was truncated. `logprobs` is
    None if they were not requested, or the server has none.
    """

    text: str
    finish_reason: str
    usage: Usage
    model: str
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """`size` is `WIDTHxHEIGHT` in pixels."""

    prompt: str
    size: str = "1024x1024"
    n: int = 1


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """The image files, as received."""

    images: tuple[bytes, ...]
    model: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """`text`: at most `MAX_SPEECH_CHARACTERS`; `format`: wav, mp3, flac, opus or aac."""

    text: str
    voice: str
    format: str = "wav"


MAX_SPEECH_CHARACTERS = 4096
"""https://platform.openai.com/docs/api-reference/audio/createSpeech"""


@dataclass(frozen=True, slots=True)
class SpeechAnswer:
    """An audio file, as received."""

    audio: bytes
    model: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do, as probed. `context_tokens` is None if the server did not say."""

    schema_output: bool
    logprobs: bool
    token_count: bool
    streaming: bool
    images: bool
    speech: bool
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that a model made: `LLM.image` and `LLM.speech` store it in STORAGE_URL as `key`."""

    key: str
    content_type: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Probed:
    """The result of a probe: `model` is loaded and has answered."""

    model: str
    detail: str


Admitted = Callable[[], AbstractAsyncContextManager[None]]
"""Makes the block in which one call of the model is made: it has a slot of the server's limit."""


class Backend(Protocol):
    """
    One model server. All methods raise `LLMError`s; cancelling a call closes its request, so that
    the server stops working on it.
    """

    @property
    def name(self) -> str:
        """The value of LLM_BACKEND."""

    @property
    def server(self) -> str:
        """The server's URL without credentials, for messages and as the key of its limits."""

    async def chat(self, request: ChatRequest, *, on_text: OnText | None = None) -> ChatAnswer:
        """The answer; with `on_text` its text is also streamed."""

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """The number of tokens of the prompt, counted by the server; None if it cannot count."""

    async def image(self, request: ImageRequest) -> ImageAnswer: ...

    async def speech(self, request: SpeechRequest) -> SpeechAnswer: ...

    async def capabilities(self, admitted: Admitted = nullcontext) -> Capabilities:
        """Each call of the model that this takes is made in a block of `admitted`."""

    async def probe(self) -> Probed:
        """Check that the model is loaded, by using it."""


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """
    `value` is valid against the schema. `answer` is the accepted answer: its `text` is the raw
    output, its `usage` the sum of all `tries`.
    """

    value: Any
    answer: ChatAnswer
    tries: int


class LLM(Protocol):
    """
    The model, for one job: `llm: LLM = TaskiqDepends(llm_of_job)`.

    Each call is named by its `step`, unique within the job. Its answer is in the job's journal
    before the call returns, and its usage counted: a run after a crash gets the same answer for
    the same step and request, and the server is not called again. If the server refuses calls for
    some time, the job waits: that raises `Snooze`, which the task must not catch, and costs no
    attempt. All methods raise `LLMError`s.
    """

    @property
    def backend(self) -> str:
        """`llamacpp`, `vllm` or `openai`; `extractive` if no server is set."""

    @property
    def available(self) -> bool:
        """Whether there is a model; without one every call raises `ModelRequired`."""

    async def chat(
        self, step: str, request: ChatRequest, *, on_text: OnText | None = None
    ) -> ChatAnswer:
        """With `on_text` the text is streamed; an answer from the journal comes as one piece."""

    async def chat_json(self, step: str, request: ChatRequest, schema: JsonSchema) -> JsonAnswer:
        """A valid answer. Raises `InvalidSchema`; after a few tries, `SchemaValidationError`."""

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """The number of tokens of the prompt, counted by the server; None if it cannot count."""

    async def image(self, step: str, request: ImageRequest) -> tuple[Stored, ...]:
        """Image files, checked by their first bytes and stored."""

    async def speech(self, step: str, request: SpeechRequest) -> Stored:
        """An audio file, checked by its first bytes and stored."""

    async def capabilities(self) -> Capabilities: ...
