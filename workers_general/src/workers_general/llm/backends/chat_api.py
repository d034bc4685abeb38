"""
The chat API on the wire: `POST /v1/chat/completions`.

https://platform.openai.com/docs/api-reference/chat; llama.cpp and vLLM take the same.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from workers_general.llm.backends.error_mapping import map_error
from workers_general.llm.errors import LLMServerError
from workers_general.llm.protocol import ChatAnswer, ChatRequest, OnText, TokenLogprob, Usage


def chat_body(request: ChatRequest, model: str | None) -> dict[str, Any]:
    """
    The body of the request. The answer is always streamed: only then can a server that hangs be
    distinguished from one that writes a long answer, and it stops when the connection is closed.
    """
    parameters = request.parameters
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": each.role, "content": each.content} for each in request.messages],
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        "max_tokens": parameters.max_tokens,
        "seed": parameters.seed,
        "stop": list(parameters.stop) or None,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": request.schema},
        }
    if request.logprobs:
        body |= {"logprobs": True, "top_logprobs": 1}  # 1: without it llama.cpp sends 20
    return {name: value for name, value in body.items() if value is not None}


LOWEST_LOGPROB = -9999.0
"""Replaces minus infinity, which JSON does not have; vLLM sends the same."""


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Token(BaseModel):
    token: str
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Text(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Text | None = None
    message: _Text | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Part(BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: str = ""


class ChatReader:
    """Assembles the answer from the events of its stream, or from one whole document."""

    def __init__(self, server: str, on_text: OnText | None) -> None:
        self.streamed = False
        self._server = server
        self._on_text = on_text
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._model = ""

    async def add(self, event: Any) -> None:
        """Raises the `LLMError` of an error event, which can follow a status of 200."""
        if isinstance(event, dict) and event.get("error"):
            raise map_error(self._server, event["error"])
        try:
            part = _Part.model_validate(event)
        except ValidationError:
            raise LLMServerError(self._server, "the answer is not a chat completion") from None
        self._model = part.model or self._model
        if part.usage is not None:
            self._usage = Usage(part.usage.prompt_tokens, part.usage.completion_tokens)
        for choice in part.choices[:1]:
            self._finish_reason = choice.finish_reason or self._finish_reason
            if choice.logprobs is not None:
                self._logprobs += [
                    TokenLogprob(_clean(token.token), max(token.logprob, LOWEST_LOGPROB))
                    for token in choice.logprobs.content or ()
                ]
            self.streamed = self.streamed or choice.delta is not None
            text = choice.delta or choice.message
            if text is not None and text.content:
                self._texts.append(_clean(text.content))
                if self._on_text is not None:
                    await self._on_text(self._texts[-1])

    def answer(self, *, ended: bool) -> ChatAnswer:
        """Raises `LLMServerError` for an answer that stops in the middle."""
        if self._finish_reason is None:
            why = "without a finish reason" if ended else "in the middle"
            raise LLMServerError(self._server, f"the answer ended {why}: it may be truncated")
        return ChatAnswer(
            text="".join(self._texts),
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
            logprobs=tuple(self._logprobs) or None,
        )


def _clean(text: str) -> str:
    """Without lone surrogates, which no store accepts."""
    return text.encode("utf-8", "replace").decode()
