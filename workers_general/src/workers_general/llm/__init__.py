"""
Calls of language models: paid for once, held back where a server asks for it, checked here.

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
