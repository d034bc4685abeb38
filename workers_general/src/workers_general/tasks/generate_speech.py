"""The task `generate_speech`: it speaks a text and stores the audio."""

from __future__ import annotations

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import GENERATE_SPEECH, GenerateSpeechArgs, GenerateSpeechResult
from api_shared.storage import Storage
from workers_general.generative.media import speak
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM
from workers_general.storage import worker_storage


@broker.task(GENERATE_SPEECH)
async def generate_speech(
    args: GenerateSpeechArgs,
    llm: LLM = TaskiqDepends(llm_of_job),
    storage: Storage = TaskiqDepends(worker_storage),
) -> GenerateSpeechResult:
    return await speak(llm, args, broker.runtime.settings.llm_speech_model, storage)
