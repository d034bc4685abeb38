"""A real llama.cpp server with a random model: the text is noise, the protocol is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fixtures.llama import CONTEXT_TOKENS, KEY
from fixtures.workers import until
from workers_general.llm.backends.client import Deadlines, ModelServer, new_client
from workers_general.llm.backends.llamacpp import LlamaCppBackend
from workers_general.llm.backends.openai import OpenAIBackend
from workers_general.llm.errors import AuthenticationError, ContextOverflow, LLMClientError
from workers_general.llm.protocol import ChatRequest, ImageRequest, Message, Parameters
from workers_general.llm.schemas import Schema

PATIENT = Deadlines(connect_s=20, first_token_s=120, stall_s=120, whole_s=300)
HELLO = (Message("system", "You are brief."), Message("user", "Say something."))
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
        "code": {"type": "string", "pattern": "^[A-F]{3}$"},
    },
    "required": ["mood", "score", "code"],
    "additionalProperties": False,
}


@pytest.fixture(params=[LlamaCppBackend, OpenAIBackend])
async def backend(request: pytest.FixtureRequest, llama_url: str) -> AsyncIterator[OpenAIBackend]:
    async with new_client() as http:
        yield request.param(ModelServer(http, llama_url, key=None, deadlines=PATIENT))


def ask(*, tokens: int = 8, **fields: Any) -> ChatRequest:
    return ChatRequest(HELLO, Parameters(max_tokens=tokens, seed=7), **fields)


async def test_a_chat_is_answered_counted_and_repeatable(backend: OpenAIBackend) -> None:
    one, two = await backend.chat(ask()), await backend.chat(ask())
    assert one.text == two.text
    assert one.finish_reason == "length"
    assert one.usage.completion_tokens == 8
    assert one.usage.prompt_tokens == await backend.count_tokens(HELLO)
    assert one.model == "random"


async def test_streamed_text_is_the_answers_text(backend: OpenAIBackend) -> None:
    pieces: list[str] = []

    async def tell(text: str) -> None:
        pieces.append(text)

    answer = await backend.chat(ask(tokens=40), on_text=tell)
    assert len(pieces) > 5
    assert "".join(pieces) == answer.text


async def test_output_keeps_to_the_schema_that_was_sent(backend: OpenAIBackend) -> None:
    for seed in range(5):
        parameters = Parameters(max_tokens=400, seed=seed)
        answer = await backend.chat(ChatRequest(HELLO, parameters, schema=SCHEMA))
        assert answer.finish_reason == "stop"
        assert Schema(SCHEMA).read(answer.text)[1] == (), answer.text


async def test_each_token_has_its_log_probability(backend: OpenAIBackend) -> None:
    answer = await backend.chat(ask(logprobs=True))
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 8
    assert all(each.logprob <= 0 for each in answer.logprobs)
    assert (await backend.chat(ask())).logprobs is None


async def test_a_prompt_over_the_context_is_refused_with_its_sizes(
    backend: OpenAIBackend,
) -> None:
    long = (Message("user", "word " * CONTEXT_TOKENS),)
    with pytest.raises(ContextOverflow) as caught:
        await backend.chat(ChatRequest(long))
    assert caught.value.context_tokens == CONTEXT_TOKENS
    assert caught.value.prompt_tokens == await backend.count_tokens(long)


async def test_a_schema_that_it_cannot_follow_is_the_callers_error(
    backend: OpenAIBackend,
) -> None:
    with pytest.raises(LLMClientError):
        await backend.chat(ask(schema={"type": "nonsense"}))


async def test_capabilities_are_asked(backend: OpenAIBackend) -> None:
    found = await backend.capabilities()
    assert found.schema_output
    assert found.logprobs
    assert found.token_count
    assert found.streaming
    assert not found.images
    assert not found.speech
    assert found.context_tokens == CONTEXT_TOKENS
    with pytest.raises(LLMClientError):
        await backend.image(ImageRequest("a cat"))


async def test_the_probe_proves_that_the_model_answers(backend: OpenAIBackend) -> None:
    assert (await backend.probe()).model == "random"


async def test_cancelling_a_call_frees_its_slot(backend: OpenAIBackend, llama_url: str) -> None:
    async def slots() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(timeout=60) as http:
            return list((await http.get(f"{llama_url}/slots")).json())

    async def busy() -> list[int]:
        return [slot["id"] for slot in await slots() if slot["is_processing"]]

    async def idle() -> bool:
        return not await busy()

    written: list[str] = []

    async def tell(text: str) -> None:
        written.append(text)

    for _ in range(5):  # the text takes a second or two, and the machine may stand still as long
        await until(idle, 60)
        written.clear()
        call = asyncio.create_task(backend.chat(ask(tokens=CONTEXT_TOKENS), on_text=tell))
        await until(lambda call=call: written or call.done(), 60)  # type: ignore[misc]
        ours = await busy()
        call.cancel()
        (ended,) = await asyncio.gather(call, return_exceptions=True)
        await until(idle, 60)
        left = [slot["next_token"][0] for slot in await slots() if slot["id"] in ours]
        if isinstance(ended, asyncio.CancelledError) and left and left[0]["has_next_token"]:
            return
    pytest.fail("each time the server wrote its text to the end")


async def test_a_server_that_wants_a_key_gets_it_or_says_so(locked_llama_url: str) -> None:
    async with new_client() as http:
        for key in (None, "wrong"):
            server = ModelServer(http, locked_llama_url, key=key, deadlines=PATIENT)
            with pytest.raises(AuthenticationError, match="LLM_API_KEY") as caught:
                await LlamaCppBackend(server, model="m").chat(ask())
            assert caught.value.status == 401
        server = ModelServer(http, locked_llama_url, key=KEY, deadlines=PATIENT)
        assert (await LlamaCppBackend(server).chat(ask())).usage.completion_tokens == 8
