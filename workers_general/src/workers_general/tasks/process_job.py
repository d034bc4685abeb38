"""Run a request that an API has recorded itself, and write back how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.client.contract import FailedJob
from api_shared.contracts.language import (
    GENERATE_IMAGE,
    GENERATE_SPEECH,
    GENERATE_TEXT,
    PROCESS_JOB,
    ProcessJobArgs,
    ProcessJobResult,
)
from api_shared.errors import Discard
from api_shared.ledger.requests import RecordedRequest, RecordedRequests, RecordStatus
from api_shared.storage import Storage
from api_shared.worker.context import JobContext
from workers_general.generative.generate import generate
from workers_general.generative.media import make_images, speak
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM, OnText
from workers_general.tasks.generate_speech import storage

Kind = Literal["text", "image", "audio"]
CONTRACTS = {"text": GENERATE_TEXT, "image": GENERATE_IMAGE, "audio": GENERATE_SPEECH}


def recorded_requests() -> RecordedRequests:
    return broker.runtime.ledger.requests


async def write_failure(failed: FailedJob) -> None:
    """The job has failed for good, wherever that was: the record says so."""
    args = ProcessJobArgs.model_validate(failed.args)
    await recorded_requests().end(
        args.job_id, failed.job_id, RecordStatus.FAILED, error=failed.message
    )


async def was_cancelled(job_id: str) -> bool:
    """A body is stopped at its limit and by its worker's end too: then it runs again."""
    job = await broker.runtime.ledger.get(job_id)
    return job is not None and job.cancel_requested


async def has_ended(job_id: str) -> bool:
    """A job that is cancelled while it waits has no body to say so in its record."""
    job = await broker.runtime.ledger.get(job_id)
    return job is None or job.status.is_terminal


@broker.task(replace(PROCESS_JOB, on_failure=write_failure))
async def process_job(
    args: ProcessJobArgs,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
    kept_in: Storage = TaskiqDepends(storage),
    requests: RecordedRequests = TaskiqDepends(recorded_requests),
) -> ProcessJobResult:
    """
    A record belongs to the first job that begins it; delivered again, a completed one gives the
    result that was written back, and another job's is left alone.
    """
    record = await requests.begin(args.job_id, job.id)
    holder = None if record is None else record.job_id
    if holder not in (None, job.id) and await has_ended(holder):
        record = await requests.begin(args.job_id, job.id, after=holder)
    kind, request = checked(record, args.job_id, job.id)
    if record is not None and record.status == RecordStatus.COMPLETED:
        return ProcessJobResult(job_id=args.job_id, kind=kind, result=dict(record.result or {}))
    try:
        result = await run(kind, request, llm, kept_in, job.write)
    except asyncio.CancelledError:
        if await was_cancelled(job.id):
            await requests.end(args.job_id, job.id, RecordStatus.CANCELLED)
        raise
    await requests.end(args.job_id, job.id, RecordStatus.COMPLETED, result=result)
    return ProcessJobResult(job_id=args.job_id, kind=kind, result=result)


def checked(
    record: RecordedRequest | None, record_id: str, job_id: str
) -> tuple[Kind, Mapping[str, Any]]:
    """What the record asks for. Raises `Discard` where it is nothing that this job can run."""
    if record is None:
        raise Discard(
            f"nothing is recorded as {record_id!r} in the collection `requests` of DATABASE_NAME: "
            f"write the record first, then kiq"
        )
    if record.job_id != job_id and record.status != RecordStatus.COMPLETED:
        raise Discard(
            f"{record_id!r} is {record.status} in job {record.job_id}: another can take it over "
            f"when that has failed or was cancelled"
        )
    if record.kind not in CONTRACTS:
        kind = str(record.kind)[:50]
        raise Discard(f"{record_id!r} is of kind {kind!r}: one of {', '.join(CONTRACTS)} is wanted")
    if not isinstance(record.request, Mapping):
        raise Discard(f"the field `request` of {record_id!r} is no object with arguments")
    return cast(Kind, record.kind), record.request


async def run(
    kind: Kind, request: Mapping[str, Any], llm: LLM, kept_in: Storage, on_text: OnText
) -> dict[str, Any]:
    """As the kind's own task would, within this job. Raises `InvalidArguments`."""
    settings = broker.runtime.settings
    result: Any
    match kind:
        case "text":
            result = await generate(llm, GENERATE_TEXT.parse((), request), on_text=on_text)
        case "image":
            images = GENERATE_IMAGE.parse((), request)
            result = await make_images(llm, images, settings.llm_image_model)
        case "audio":
            speech = GENERATE_SPEECH.parse((), request)
            result = await speak(llm, speech, settings.llm_speech_model, kept_in)
    return cast(dict[str, Any], result.model_dump(mode="json"))
