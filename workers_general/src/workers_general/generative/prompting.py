"""Prompting of a model: its context window, and answers that are not empty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from api_shared.contracts.language import GenerationParameters
from api_shared.errors import PermanentError
from workers_general.llm.protocol import LLM, ChatAnswer, ChatRequest, Message, Parameters
from workers_general.text.parts import split_parts

ASSUMED_CONTEXT_TOKENS = 4096
"""For a server that does not say its context size: the smallest of today's models."""
BYTES_PER_TOKEN = 2
"""For a server that cannot count tokens: English has about 4, most scripts at least 2."""
MARGIN_TOKENS = 16
ANSWER_SHARE = 3
"""The part of the context that is reserved for the answer at most: a third."""
TRIES = 3


class EmptyAnswer(PermanentError):
    """The model wrote nothing, with three different seeds."""

    def __init__(self, step: str, tries: int) -> None:
        self.step = step
        self.tries = tries
        super().__init__(f"{step}: the model wrote nothing in {tries} tries: use another model")


class OnProgress(Protocol):
    """`JobContext.progress`."""

    def __call__(
        self, done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """The number of tokens that a model can read and write together in one call."""

    llm: LLM
    context_tokens: int

    @classmethod
    async def of(cls, llm: LLM) -> ContextWindow:
        capabilities = await llm.capabilities()
        return cls(llm, capabilities.context_tokens or ASSUMED_CONTEXT_TOKENS)

    def answer_tokens(self, estimate: int, requested: int | None) -> int:
        """The limit of an answer: as `requested` by the job, else `estimate`, within the window."""
        return max(1, min(requested or estimate, self.context_tokens // ANSWER_SHARE))

    async def split(self, text: str, system: str, answer_tokens: int) -> list[str]:
        """
        The text in parts that fit into the window after `system`, with space for the answer.

        Raises `NothingFits` where the prompt alone is too long.
        """

        async def count(part: str) -> int:
            return await self._count(messages(system, part))

        return await split_parts(text, self._prompt_tokens(answer_tokens), count)

    async def fits(self, prompt: tuple[Message, ...], answer_tokens: int) -> bool:
        return await self._count(prompt) <= self._prompt_tokens(answer_tokens)

    def _prompt_tokens(self, answer_tokens: int) -> int:
        return self.context_tokens - answer_tokens - MARGIN_TOKENS

    async def _count(self, prompt: tuple[Message, ...]) -> int:
        """Counted by the server if it can count, else estimated."""
        counted = await self.llm.count_tokens(prompt)
        if counted is not None:
            return counted
        size_bytes = sum(len(message.content.encode()) for message in prompt)
        return size_bytes // BYTES_PER_TOKEN + MARGIN_TOKENS * len(prompt)


def messages(system: str, user: str) -> tuple[Message, ...]:
    return (Message("system", system), Message("user", user))


def parameters_of(given: GenerationParameters, *, max_tokens: int | None = None) -> Parameters:
    """The job's parameters, with `max_tokens` if it is given."""
    return Parameters(
        temperature=given.temperature,
        top_p=given.top_p,
        max_tokens=max_tokens or given.max_tokens,
        seed=given.seed,
        stop=given.stop,
    )


async def ask(llm: LLM, step: str, request: ChatRequest) -> ChatAnswer:
    """An answer that is not empty. Raises `EmptyAnswer` after three seeds."""
    for number in range(1, TRIES + 1):
        named = step if number == 1 else f"{step}, try {number}"
        answer = await llm.chat(named, request)
        if answer.text.strip():
            return answer
        seed = (request.parameters.seed or 0) + 1
        request = replace(request, parameters=replace(request.parameters, seed=seed))
    raise EmptyAnswer(step, TRIES)
