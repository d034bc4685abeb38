"""The task `summarize_text`: by a model if one is set, else by the text's central sentences."""

from __future__ import annotations

import asyncio

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import SUMMARIZE_TEXT, SummarizeTextArgs, SummarizeTextResult
from api_shared.worker.context import JobContext
from workers_general.extractive import pick_sentences
from workers_general.generative.prompting import OnProgress
from workers_general.generative.summarize import summarize
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM
from workers_general.text.language import language_of
from workers_general.text.words import count_words


@broker.task(SUMMARIZE_TEXT)
async def summarize_text(
    args: SummarizeTextArgs,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
) -> SummarizeTextResult:
    if llm.available:
        return await by_model(args, llm, job.progress)
    # In a thread: it takes a second or two for a megabyte.
    return await asyncio.to_thread(by_ranking, args)


async def by_model(args: SummarizeTextArgs, llm: LLM, progress: OnProgress) -> SummarizeTextResult:
    made = await summarize(
        llm, args.text, args.max_length, args.language, args.parameters, progress
    )
    words = await asyncio.to_thread(count_words, args.text)
    summary_words = count_words(made.text)
    return SummarizeTextResult(
        summary=made.text,
        original_length=words,
        summary_length=summary_words,
        compression_ratio=_ratio(summary_words, words),
        method="model",
        backend=llm.backend,
        model=made.model,
        prompt=made.prompt,
        language=args.language or language_of(args.text),
        cut=made.cut,
        parts=made.parts,
        levels=made.levels,
    )


def by_ranking(args: SummarizeTextArgs) -> SummarizeTextResult:
    language = language_of(args.text)
    summary = pick_sentences(args.text, args.max_length, language)
    words, summary_words = count_words(args.text), count_words(summary)
    return SummarizeTextResult(
        summary=summary,
        original_length=words,
        summary_length=summary_words,
        compression_ratio=_ratio(summary_words, words),
        method="extractive",
        backend="extractive",
        language=language,
    )


def _ratio(summary_words: int, words: int) -> float:
    return round(summary_words / words, 4) if words else 1.0
