"""
Doubles for tests of tasks that call a model, without a server.

    model = ScriptedModel("Bonjour.", '{"language": "fr"}')
    async with running_in_place(broker):
        with using_model(model):
            handle = await TRANSLATE.kiq(TranslateArgs(text="Hello."))
    assert await handle.result() == ...
    assert model.requests[0].messages[-1].content == "Hello."
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from api_shared.errors import UsageError
from workers_general.llm.models import backend_override
from workers_general.llm.protocol import (
    Admitted,
    Backend,
    Capabilities,
    ChatAnswer,
    ChatRequest,
    ImageAnswer,
    ImageRequest,
    Message,
    OnText,
    Probed,
    SpeechAnswer,
    SpeechRequest,
    Usage,
)

Scripted = str | ChatAnswer | ImageAnswer | SpeechAnswer | Exception


class ScriptEnded(UsageError):
    def __init__(self, answers: int) -> None:
        self.answers = answers
        super().__init__(f"the script has {answers} answers, and one more is needed: add it")


class ScriptedModel:
    """
    A `Backend` that returns its answers in their order, and raises those that are exceptions.
    `requests` has all requests it was sent. A token is a word.
    """

    name = "scripted"
    server = "scripted"

    def __init__(self, *answers: Scripted, context_tokens: int | None = None) -> None:
        self.requests: list[ChatRequest | ImageRequest | SpeechRequest] = []
        self._answers = answers
        self._context_tokens = context_tokens

    async def chat(self, request: ChatRequest, *, on_text: OnText | None = None) -> ChatAnswer:
        answer = self._next(request)
        if isinstance(answer, str):
            answer = ChatAnswer(answer, "stop", self._usage(request, answer), "scripted-1")
        assert isinstance(answer, ChatAnswer), f"expected an answer for a chat, got {answer!r}"  # noqa: S101
        if on_text is not None:
            for piece in answer.text.splitlines(keepends=True):
                await on_text(piece)
        return answer

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return sum(len(each.content.split()) for each in messages)

    async def image(self, request: ImageRequest) -> ImageAnswer:
        answer = self._next(request)
        assert isinstance(answer, ImageAnswer), f"expected an ImageAnswer, got {answer!r}"  # noqa: S101
        return answer

    async def speech(self, request: SpeechRequest) -> SpeechAnswer:
        answer = self._next(request)
        assert isinstance(answer, SpeechAnswer), f"expected a SpeechAnswer, got {answer!r}"  # noqa: S101
        return answer

    async def capabilities(self, admitted: Admitted = nullcontext) -> Capabilities:
        return Capabilities(
            schema_output=True,
            logprobs=False,
            token_count=True,
            streaming=True,
            images=True,
            speech=True,
            context_tokens=self._context_tokens,
        )

    async def probe(self) -> Probed:
        return Probed("scripted-1", "answers from its script")

    def _next(self, request: ChatRequest | ImageRequest | SpeechRequest) -> Scripted:
        self.requests.append(request)
        if len(self.requests) > len(self._answers):
            raise ScriptEnded(len(self._answers))
        answer = self._answers[len(self.requests) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _usage(self, request: ChatRequest, text: str) -> Usage:
        prompt = sum(len(each.content.split()) for each in request.messages)
        return Usage(prompt, len(text.split()))


@contextmanager
def using_model(model: Backend) -> Iterator[None]:
    """Jobs that are kiqed within the block and run in place call `model`, whatever the settings."""
    token = backend_override.set(model)
    try:
        yield
    finally:
        backend_override.reset(token)
