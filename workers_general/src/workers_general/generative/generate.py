"""Text by a model, free or valid against a JSON Schema."""

from __future__ import annotations

from api_shared.contracts.language import (
    GenerateTextArgs,
    GenerateTextResult,
    TokenUsage,
)
from workers_general.generative.prompting import parameters_of
from workers_general.llm.protocol import LLM, ChatAnswer, ChatRequest, Message, OnText

STEP = "generate"


async def generate(
    llm: LLM, args: GenerateTextArgs, *, on_text: OnText | None = None
) -> GenerateTextResult:
    """`on_text` is called with each piece of text if the job asks for a stream."""
    given = (
        tuple(Message(message.role, message.content) for message in args.messages)
        if args.prompt is None
        else (Message("user", args.prompt),)
    )
    request = ChatRequest(given, parameters_of(args.parameters))
    if args.json_schema is None:
        answer = await llm.chat(STEP, request, on_text=on_text if args.stream else None)
        return _result(llm, answer)
    found = await llm.chat_json(STEP, request, args.json_schema)
    return _result(llm, found.answer).model_copy(update={"value": found.value})


def _result(llm: LLM, answer: ChatAnswer) -> GenerateTextResult:
    return GenerateTextResult(
        backend=llm.backend,
        model=answer.model,
        text=answer.text,
        usage=TokenUsage(
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        ),
        finish_reason=answer.finish_reason,
    )
