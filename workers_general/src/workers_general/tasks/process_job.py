"""The task `process_job`: it runs a request that an API has recorded, and records its end."""

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
from workers_general.storage import worker_storage

Kind = Literal["text", "image", "audio"]
CONTRACTS = {"text": GENERATE_TEXT, "image": GENERATE_IMAGE, "audio": GENERATE_SPEECH}


def recorded_requests() -> RecordedRequests:
    return broker.runtime.ledger.requests


async def write_failure(failed: FailedJob) -> None:
    """Record that the job has failed for good."""
    args = ProcessJobArgs.model_validate(failed.args)
    await recorded_requests().end(
        args.job_id, failed.job_id, RecordStatus.FAILED, error=failed.message
    )


async def was_cancelled(job_id: str) -> bool:
    """Whether a cancel stopped the task; a time limit or the end of its worker stops it too."""
    job = await broker.runtime.ledger.get(job_id)
    return job is not None and job.cancel_requested


async def has_ended(job_id: str) -> bool:
    """Whether the job has ended; a job cancelled while it waits cannot update its record."""
    job = await broker.runtime.ledger.get(job_id)
    return job is None or job.status.is_terminal


@broker.task(replace(PROCESS_JOB, on_failure=write_failure))
async def process_job(
    args: ProcessJobArgs,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
    storage: Storage = TaskiqDepends(worker_storage),
    requests: RecordedRequests = TaskiqDepends(recorded_requests),
) -> ProcessJobResult:
    """
    A record belongs to the first job that begins it. If the record is completed, the job returns
    the recorded result; a record of another job that still runs is left alone.
    """
    record = await requests.begin(args.job_id, job.id)
    holder = None if record is None else record.job_id
    if holder not in (None, job.id) and await has_ended(holder):
        record = await requests.begin(args.job_id, job.id, after=holder)
    kind, request = checked(record, args.job_id, job.id)
    if record is not None and record.status == RecordStatus.COMPLETED:
        return ProcessJobResult(job_id=args.job_id, kind=kind, result=dict(record.result or {}))
    try:
        result = await run(kind, request, llm, storage, job.write)
    except asyncio.CancelledError:
        if await was_cancelled(job.id):
            await requests.end(args.job_id, job.id, RecordStatus.CANCELLED)
        raise
    await requests.end(args.job_id, job.id, RecordStatus.COMPLETED, result=result)
    return ProcessJobResult(job_id=args.job_id, kind=kind, result=result)


def checked(
    record: RecordedRequest | None, record_id: str, job_id: str
) -> tuple[Kind, Mapping[str, Any]]:
    """The kind and request of the record. Raises `Discard` if this job cannot run it."""
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
        raise Discard(f"{record_id!r} is of kind {kind!r}: expected one of {', '.join(CONTRACTS)}")
    if not isinstance(record.request, Mapping):
        raise Discard(f"the field `request` of {record_id!r} is not an object with arguments")
    return cast(Kind, record.kind), record.request


async def run(
    kind: Kind, request: Mapping[str, Any], llm: LLM, storage: Storage, on_text: OnText
) -> dict[str, Any]:
    """Run the request as the task of its kind would. Raises `InvalidArguments`."""
    settings = broker.runtime.settings
    result: Any
    match kind:
        case "text":
            result = await generate(llm, GENERATE_TEXT.parse_json((), request), on_text=on_text)
        case "image":
            images = GENERATE_IMAGE.parse_json((), request)
            result = await make_images(llm, images, settings.llm_image_model)
        case "audio":
            speech = GENERATE_SPEECH.parse_json((), request)
            result = await speak(llm, speech, settings.llm_speech_model, storage)
    return cast(dict[str, Any], result.model_dump(mode="json"))
