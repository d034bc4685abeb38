"""The task `generate_text`: it writes text, which can be streamed."""

from __future__ import annotations

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import GENERATE_TEXT, GenerateTextArgs, GenerateTextResult
from api_shared.worker.context import JobContext
from workers_general.generative.generate import generate
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM


@broker.task(GENERATE_TEXT)
async def generate_text(
    args: GenerateTextArgs,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
) -> GenerateTextResult:
    return await generate(llm, args, on_text=job.write)
