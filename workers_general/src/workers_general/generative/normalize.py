"""Data normalized to a JSON Schema by a model, with a confidence."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from api_shared.contracts.language import GenerationParameters
from workers_general.generative.prompting import OnProgress, messages, parameters_of
from workers_general.llm.protocol import LLM, ChatRequest, JsonSchema, TokenLogprob
from workers_general.prompts import in_language, prompt

PROMPT = "normalize.v1"


@dataclass(frozen=True, slots=True)
class Normalized:
    """See `NormalizeJsonResult`."""

    value: Any
    confidence: float | None
    confidence_from: Literal["agreement", "token_probability"] | None
    model: str
    prompt: str


async def normalize(
    llm: LLM,
    data: Any,
    schema: JsonSchema,
    language: str | None,
    samples: int,
    parameters: GenerationParameters,
    progress: OnProgress,
) -> Normalized:
    """The most frequent value of the samples, valid against `schema`; of equals the earliest."""
    system = prompt(PROMPT).fill(schema=json.dumps(schema), language=_language_words(language))
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    wants_logprobs = samples == 1 and (await llm.capabilities()).logprobs
    given = parameters_of(parameters)
    found = []
    for number in range(1, samples + 1):
        progress(number - 1, samples, stage="normalize")
        if samples > 1:
            given = replace(given, seed=(parameters.seed or 0) + number)
        request = ChatRequest(messages(system, text), given, logprobs=wants_logprobs)
        found.append(await llm.chat_json(f"normalize, sample {number}", request, schema))
    model = found[0].answer.model
    if samples > 1:
        value, share = most_agreed([sample.value for sample in found])
        return Normalized(value, share, "agreement", model, PROMPT)
    confidence = token_probability(found[0].answer.logprobs)
    source: Literal["token_probability"] | None = (
        None if confidence is None else "token_probability"
    )
    return Normalized(found[0].value, confidence, source, model, PROMPT)


def most_agreed(values: Sequence[Any]) -> tuple[Any, float]:
    """The most frequent value, of equals the earliest, and its share of all."""
    texts = [json.dumps(value, sort_keys=True) for value in values]
    text, times = Counter(texts).most_common(1)[0]
    return values[texts.index(text)], round(times / len(values), 4)


def token_probability(logprobs: Sequence[TokenLogprob] | None) -> float | None:
    """The geometric mean of the tokens' probabilities; None without any."""
    if not logprobs:
        return None
    mean = sum(token.logprob for token in logprobs) / len(logprobs)
    return round(min(1.0, math.exp(mean)), 4)


def _language_words(language: str | None) -> str:
    return "the language of the data" if language is None else in_language(language)
