"""How the language tasks ask a model: how much it can read, and an answer that is not empty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from api_shared.contracts.language import GenerationParameters
from api_shared.errors import PermanentError
from workers_general.llm.protocol import LLM, ChatAnswer, ChatRequest, Message, Parameters
from workers_general.text.parts import split_parts

ASSUMED_CONTEXT_TOKENS = 4096
"""Where a server does not say how much its model can read: the least of today's."""
BYTES_PER_TOKEN = 2
"""Where a server cannot count: English has about 4, and most scripts at least 2."""
MARGIN_TOKENS = 16
ANSWER_SHARE = 3
"""An answer gets at most this part of the context, and what it answers to the rest."""
TRIES = 3


class EmptyAnswer(PermanentError):
    """The model wrote nothing, with three seeds."""

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
class Room:
    """How many tokens a model can read and write in one call, together."""

    llm: LLM
    context_tokens: int

    @classmethod
    async def of(cls, llm: LLM) -> Room:
        capabilities = await llm.capabilities()
        return cls(llm, capabilities.context_tokens or ASSUMED_CONTEXT_TOKENS)

    def answer_tokens(self, wanted: int, asked: int | None) -> int:
        """What an answer may take: `asked` by the job, else `wanted`, and never too much."""
        return max(1, min(asked or wanted, self.context_tokens // ANSWER_SHARE))

    async def split(self, text: str, system: str, answer_tokens: int) -> list[str]:
        """
        The text in parts that can be read behind `system` with space left for the answer.

        Raises `NothingFits` where the prompt alone is too long.
        """

        async def count(part: str) -> int:
            return await self._count(messages(system, part))

        return await split_parts(text, self._left(answer_tokens), count)

    async def holds(self, prompt: tuple[Message, ...], answer_tokens: int) -> bool:
        return await self._count(prompt) <= self._left(answer_tokens)

    def _left(self, answer_tokens: int) -> int:
        return self.context_tokens - answer_tokens - MARGIN_TOKENS

    async def _count(self, of: tuple[Message, ...]) -> int:
        """By the server's own count where it has one."""
        counted = await self.llm.count_tokens(of)
        if counted is not None:
            return counted
        size_bytes = sum(len(message.content.encode()) for message in of)
        return size_bytes // BYTES_PER_TOKEN + MARGIN_TOKENS * len(of)


def messages(system: str, user: str) -> tuple[Message, ...]:
    return (Message("system", system), Message("user", user))


def parameters_of(given: GenerationParameters, *, max_tokens: int | None = None) -> Parameters:
    """The job's own parameters; `max_tokens` in the place of its own."""
    return Parameters(
        temperature=given.temperature,
        top_p=given.top_p,
        max_tokens=max_tokens or given.max_tokens,
        seed=given.seed,
        stop=given.stop,
    )


async def ask(llm: LLM, step: str, request: ChatRequest) -> ChatAnswer:
    """An answer with something in it. Raises `EmptyAnswer` after three seeds."""
    for number in range(1, TRIES + 1):
        named = step if number == 1 else f"{step}, try {number}"
        answer = await llm.chat(named, request)
        if answer.text.strip():
            return answer
        seed = (request.parameters.seed or 0) + 1
        request = replace(request, parameters=replace(request.parameters, seed=seed))
    raise EmptyAnswer(step, TRIES)
