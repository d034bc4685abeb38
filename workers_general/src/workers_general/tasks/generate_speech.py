"""Speak a text, and keep the audio in the storage."""

from __future__ import annotations

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import GENERATE_SPEECH, GenerateSpeechArgs, GenerateSpeechResult
from api_shared.storage import Storage, open_storage
from workers_general.generative.media import speak
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM


def storage() -> Storage:
    return open_storage(broker.runtime.settings.storage_url)


@broker.task(GENERATE_SPEECH)
async def generate_speech(
    args: GenerateSpeechArgs,
    llm: LLM = TaskiqDepends(llm_of_job),
    kept_in: Storage = TaskiqDepends(storage),
) -> GenerateSpeechResult:
    return await speak(llm, args, broker.runtime.settings.llm_speech_model, kept_in)
