"""Keywords by a model, with the relevance it gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_shared.contracts.language import GenerationParameters
from workers_general.generative.prompting import ContextWindow, OnProgress, messages, parameters_of
from workers_general.llm.protocol import LLM, ChatRequest
from workers_general.prompts import in_language, prompt

PROMPT = "keywords.v1"
TOKENS_PER_KEYWORD = 60
MOST_RELEVANT = 100


@dataclass(frozen=True, slots=True)
class ModelKeywords:
    """`ratings` are from 0 to 1, the best first."""

    keywords: list[str]
    ratings: list[float]
    model: str
    prompt: str
    parts: int


async def extract_keywords(
    llm: LLM,
    text: str,
    max_keywords: int,
    language: str | None,
    parameters: GenerationParameters,
    progress: OnProgress,
) -> ModelKeywords:
    """
    The model's keywords. A long text is split, and the model finds the keywords of each part; a
    keyword of several parts has the best of its ratings.
    """
    window = await ContextWindow.of(llm)
    system = prompt(PROMPT).fill(max_keywords=max_keywords, language=in_language(language))
    estimate = (max_keywords + 1) * TOKENS_PER_KEYWORD
    max_tokens = window.answer_tokens(estimate, parameters.max_tokens)
    parts = await window.split(text, system, max_tokens)
    given = parameters_of(parameters, max_tokens=max_tokens)
    best: dict[str, tuple[str, int]] = {}
    model = ""
    for number, part in enumerate(parts, start=1):
        message = f"part {number} of {len(parts)}"
        progress(number - 1, len(parts), stage="keywords", message=message)
        request = ChatRequest(messages(system, part), given)
        found = await llm.chat_json(f"keywords, {message}", request, schema_of(max_keywords))
        model = found.answer.model
        for named in found.value["keywords"]:
            _keep_best(best, named)
    ranked = sorted(best.values(), key=lambda pair: -pair[1])[:max_keywords]
    return ModelKeywords(
        keywords=[keyword for keyword, _ in ranked],
        ratings=[rating / MOST_RELEVANT for _, rating in ranked],
        model=model,
        prompt=PROMPT,
        parts=len(parts),
    )


def schema_of(max_keywords: int) -> dict[str, Any]:
    keyword = {
        "type": "object",
        "properties": {
            "keyword": {"type": "string", "minLength": 1, "maxLength": 80},
            "relevance": {"type": "integer", "minimum": 0, "maximum": MOST_RELEVANT},
        },
        "required": ["keyword", "relevance"],
        "additionalProperties": False,
    }
    keywords = {"type": "array", "items": keyword, "minItems": 1, "maxItems": max_keywords}
    return {
        "type": "object",
        "properties": {"keywords": keywords},
        "required": ["keywords"],
        "additionalProperties": False,
    }


def _keep_best(best: dict[str, tuple[str, int]], named: Mapping[str, Any]) -> None:
    keyword = " ".join(named["keyword"].split())
    key = keyword.casefold()
    if keyword and (key not in best or best[key][1] < named["relevance"]):
        best[key] = (keyword, named["relevance"])
