"""Summaries by a model; a long text is summarized in levels, part by part."""

from __future__ import annotations

from dataclasses import dataclass

from api_shared.contracts.language import GenerationParameters
from api_shared.errors import PermanentError
from workers_general.generative.prompting import (
    ContextWindow,
    OnProgress,
    ask,
    messages,
    parameters_of,
)
from workers_general.llm.protocol import LLM, ChatAnswer, ChatRequest
from workers_general.prompts import in_language, prompt
from workers_general.text.sentences import split_sentences
from workers_general.text.words import count_words, cut_to_words

WHOLE = "summarize.v1"
PART = "summarize_part.v1"
TOKENS_PER_WORD = 3
"""For the limit of a summary: most words of most languages are one or two tokens."""
PART_SHARE = 4
"""A part's summary gets at most a fourth of the window, so that each level is much shorter."""


class NotShorter(PermanentError):
    """The summaries of the parts are no shorter than the text."""

    def __init__(self, level: int) -> None:
        self.level = level
        super().__init__(
            f"the summaries of level {level} are no shorter than what they summarize: "
            f"use a larger model, or start the server with a larger context"
        )


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """`cut`: the model wrote more than requested, or was cut off. `parts` are those of level 1."""

    text: str
    model: str
    prompt: str
    cut: bool
    parts: int
    levels: int


async def summarize(
    llm: LLM,
    text: str,
    max_words: int,
    language: str | None,
    parameters: GenerationParameters,
    progress: OnProgress,
) -> ModelSummary:
    """
    A summary of at most `max_words`.

    A text that does not fit the model's context is split between sentences; each part is
    summarized, and so are the summaries, until they fit.
    """
    window = await ContextWindow.of(llm)
    system = prompt(WHOLE).fill(max_words=max_words, language=in_language(language))
    answer_tokens = window.answer_tokens(max_words * TOKENS_PER_WORD, parameters.max_tokens)
    level = parts = 1
    while not await window.fits(messages(system, text), answer_tokens):
        summaries = await _summarize_parts(window, text, level, language, parameters, progress)
        shorter = "\n\n".join(summaries)
        if len(shorter) >= len(text):
            raise NotShorter(level)
        parts = len(summaries) if level == 1 else parts
        text, level = shorter, level + 1
    progress(parts, parts, stage="summary")
    given = parameters_of(parameters, max_tokens=answer_tokens)
    answer = await ask(llm, "summary", ChatRequest(messages(system, text), given))
    summary, cut = _kept(answer, max_words)
    return ModelSummary(summary, answer.model, WHOLE, cut, parts, level)


async def _summarize_parts(
    window: ContextWindow,
    text: str,
    level: int,
    language: str | None,
    parameters: GenerationParameters,
    progress: OnProgress,
) -> list[str]:
    max_tokens = window.answer_tokens(window.context_tokens // PART_SHARE, parameters.max_tokens)
    most_words = max(1, max_tokens // TOKENS_PER_WORD)

    def system(part: int, parts: int, max_words: int) -> str:
        return prompt(PART).fill(
            part=part, parts=parts, max_words=max_words, language=in_language(language)
        )

    parts = await window.split(text, system(10_000, 10_000, most_words), max_tokens)
    given = parameters_of(parameters, max_tokens=max_tokens)
    summaries = []
    for number, part in enumerate(parts, start=1):
        stage, message = f"level {level}", f"part {number} of {len(parts)}"
        progress(number - 1, len(parts), stage=stage, message=message)
        max_words = max(1, min(most_words, count_words(part) // 2))
        request = ChatRequest(messages(system(number, len(parts), max_words), part), given)
        answer = await ask(window.llm, f"{stage}, {message}", request)
        summaries.append(_kept(answer, max_words)[0])
    progress(len(parts), len(parts), stage=f"level {level}")
    return summaries


def _kept(answer: ChatAnswer, max_words: int) -> tuple[str, bool]:
    """The answer within its length, and whether something was cut."""
    text = answer.text.strip()
    if answer.finish_reason == "length":
        *whole, _ = split_sentences(text)
        text = "".join(whole) or text
    elif count_words(text) <= max_words:
        return text, False
    return cut_to_words(text, max_words), True
