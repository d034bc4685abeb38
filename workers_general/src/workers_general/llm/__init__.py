"""
Calls of language models: each is paid for once, limited for each server, and validated.

    @broker.task(TRANSLATE)
    async def translate(args: TranslateArgs, llm: LLM = TaskiqDepends(llm_of_job)) -> Translated:
        answer = await llm.chat("translate", ChatRequest((Message("user", args.text),)))
"""

from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import (
    LLM,
    ChatAnswer,
    ChatRequest,
    ImageRequest,
    JsonAnswer,
    Message,
    Parameters,
    SpeechRequest,
    Stored,
)

__all__ = [
    "LLM",
    "ChatAnswer",
    "ChatRequest",
    "ImageRequest",
    "JsonAnswer",
    "Message",
    "Parameters",
    "SpeechRequest",
    "Stored",
    "llm_of_job",
]
