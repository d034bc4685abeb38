"""The task `normalize_json`: it normalizes data to a JSON Schema."""

from __future__ import annotations

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import NORMALIZE_JSON, NormalizeJsonArgs, NormalizeJsonResult
from api_shared.worker.context import JobContext
from workers_general.generative.normalize import normalize
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM


@broker.task(NORMALIZE_JSON)
async def normalize_json(
    args: NormalizeJsonArgs,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
) -> NormalizeJsonResult:
    made = await normalize(
        llm,
        args.request,
        args.json_schema,
        args.language,
        args.samples,
        args.parameters,
        job.progress,
    )
    return NormalizeJsonResult(
        normalized=made.value,
        confidence=made.confidence,
        confidence_from=made.confidence_from,
        backend=llm.backend,
        model=made.model,
        prompt=made.prompt,
        language=args.language,
        samples=args.samples,
    )
