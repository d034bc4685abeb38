"""The task `extract_keywords`: by a model if one is set, else by a ranking of the text's words."""

from __future__ import annotations

import asyncio

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import (
    EXTRACT_KEYWORDS,
    ExtractKeywordsArgs,
    ExtractKeywordsResult,
)
from api_shared.worker.context import JobContext
from workers_general.extractive import rank_keywords
from workers_general.generative import keywords
from workers_general.generative.prompting import OnProgress
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM
from workers_general.text.language import language_of


@broker.task(EXTRACT_KEYWORDS)
async def extract_keywords(
    args: ExtractKeywordsArgs,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
) -> ExtractKeywordsResult:
    if llm.available:
        return await by_model(args, llm, job.progress)
    return await asyncio.to_thread(by_ranking, args)


async def by_model(
    args: ExtractKeywordsArgs, llm: LLM, progress: OnProgress
) -> ExtractKeywordsResult:
    found = await keywords.extract_keywords(
        llm, args.text, args.max_keywords, args.language, args.parameters, progress
    )
    return ExtractKeywordsResult(
        keywords=found.keywords,
        scores=found.ratings,
        count=len(found.keywords),
        score="model_rating",
        method="model",
        backend=llm.backend,
        model=found.model,
        prompt=found.prompt,
        language=args.language or language_of(args.text),
        parts=found.parts,
    )


def by_ranking(args: ExtractKeywordsArgs) -> ExtractKeywordsResult:
    language = args.language or language_of(args.text)
    ranked = rank_keywords(args.text, args.max_keywords, language)
    return ExtractKeywordsResult(
        keywords=[each.keyword for each in ranked],
        scores=[each.score for each in ranked],
        count=len(ranked),
        score="graph_rank",
        method="extractive",
        backend="extractive",
        language=language,
    )
