"""Calls over real HTTP, to a server that makes faults on demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from api_shared.doctor import Level
from api_shared.settings import Settings
from api_shared.testing import default_settings
from fixtures.fault_server import (
    CHAT,
    STREAM_HEAD,
    Call,
    FaultServer,
    Reply,
    answers,
    event,
    piece,
    refuses,
    says,
    sends,
    stalls,
)
from fixtures.workers import until
from workers_general.llm.backends import client
from workers_general.llm.backends.client import Deadlines, ModelServer, new_client
from workers_general.llm.backends.openai import OpenAIBackend
from workers_general.llm.backends.vllm import VllmBackend
from workers_general.llm.doctor_check import check_llm
from workers_general.llm.errors import (
    AuthenticationError,
    ContextOverflow,
    InvalidInputError,
    LLMClientError,
    LLMConnectionError,
    LLMError,
    LLMServerError,
    LLMTimeoutError,
    RateLimitError,
    SamplingFailed,
)
from workers_general.llm.limits.admission import Limits, LocalAdmission
from workers_general.llm.limits.rate_gate import gated_call
from workers_general.llm.protocol import (
    ChatRequest,
    ImageRequest,
    Message,
    Parameters,
    SpeechRequest,
    TokenLogprob,
    Usage,
)

PATIENT = Deadlines(connect_s=20, first_token_s=60, stall_s=60, whole_s=60)
HASTY_S = 2.0
HELLO = ChatRequest((Message("user", "hello"),), Parameters(max_tokens=5))
KEY = "sk-secret"


@pytest.fixture
async def backend(faults: FaultServer) -> AsyncIterator[OpenAIBackend]:
    async with new_client() as http:
        yield OpenAIBackend(
            ModelServer(http, faults.url + "/v1/", key=KEY, deadlines=PATIENT), model="m"
        )


@asynccontextmanager
async def hasty(faults: FaultServer, *limits: str) -> AsyncIterator[OpenAIBackend]:
    """With these deadlines short and no other, so that no other can pass on a slow machine."""
    deadlines = replace(PATIENT, **dict.fromkeys(limits, HASTY_S))
    async with new_client() as http:
        yield OpenAIBackend(ModelServer(http, faults.url, key=None, deadlines=deadlines), model="m")


# What is sent and what comes back.


async def test_a_request_says_what_was_asked_and_no_more(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    answer = await backend.chat(HELLO)
    assert (answer.text, answer.finish_reason, answer.usage) == ("yes", "stop", Usage(10, 1))
    (call,) = faults.calls
    assert call.path == CHAT
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_login_in_the_url_is_sent_and_never_logged(
    faults: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = faults.url.replace("http://", "http://user:hidden%21@")
    async with new_client() as http:
        backend = OpenAIBackend(ModelServer(http, url, key=None, deadlines=PATIENT), model="m")
        await backend.chat(HELLO)
    assert backend.server == faults.url
    assert faults.calls[0].headers["authorization"] == "Basic dXNlcjpoaWRkZW4h"
    assert "hidden" not in caplog.text


async def test_text_is_streamed_as_it_comes(faults: FaultServer, backend: OpenAIBackend) -> None:
    faults.on_chat(says("one two three four"))
    pieces: list[str] = []

    async def listen(text: str) -> None:
        pieces.append(text)

    answer = await backend.chat(HELLO, on_text=listen)
    assert len(pieces) == 2
    assert "".join(pieces) == answer.text == "one two three four"


async def test_a_server_that_does_not_stream_is_understood(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    choice = {
        "message": {"role": "assistant", "content": "whole"},
        "finish_reason": "stop",
        "logprobs": {"content": [{"token": "whole", "logprob": -0.5}]},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    faults.on_chat(answers({"model": "x", "choices": [choice], "usage": usage}))
    answer = await backend.chat(HELLO)
    assert (answer.text, answer.model, answer.usage) == ("whole", "x", Usage(3, 1))
    assert answer.logprobs == (TokenLogprob("whole", -0.5),)


async def test_lone_surrogates_are_not_passed_on(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    end = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    lone = b'data: {"choices":[{"delta":{"content":"a\\ud800b"}}]}\n\n'
    faults.on_chat(sends(STREAM_HEAD + lone + end + b"data: [DONE]\n\n"))
    assert (await backend.chat(HELLO)).text == "a?b"


async def test_a_model_that_needs_another_name_for_its_limit_gets_it(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    """https://platform.openai.com/docs/guides/reasoning: `max_tokens` is refused there."""
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    error = {"message": said, "param": "max_tokens", "code": "unsupported_parameter"}
    faults.on_chat(refuses(400, {"error": error}), says("yes"))
    await backend.chat(HELLO)
    await backend.chat(HELLO)
    assert ["max_tokens" in call.body for call in faults.chats] == [True, False, False]
    assert ["max_completion_tokens" in call.body for call in faults.chats] == [False, True, True]


async def test_a_server_that_serves_another_model_by_now_is_asked_which(
    faults: FaultServer,
) -> None:
    """vLLM answers 404 for a name that it does not serve."""
    gone = refuses(404, {"error": {"message": "The model `old` does not exist.", "code": 404}})
    old, new = ({"data": [{"id": name}]} for name in ("old", "new"))
    faults.on("/v1/models", answers(old), answers(new))
    faults.on_chat(says("yes"), gone, says("yes"), gone)
    async with new_client() as http:
        backend = VllmBackend(ModelServer(http, faults.url, key=None, deadlines=PATIENT))
        await backend.chat(HELLO)
        await backend.chat(HELLO)
        with pytest.raises(LLMClientError):
            await backend.chat(HELLO)
    assert [call.body["model"] for call in faults.chats] == ["old", "old", "new", "new", "new"]


# What several calls at once learn about a server.

AT_ONCE = 4


def together(answer: Callable[[Call], Reply]) -> Reply:
    """The first calls are answered when all of them are there; each as `answer` chooses."""
    all_there = asyncio.Event()
    came: list[Call] = []

    async def reply(call: Call) -> None:
        came.append(call)
        if len(came) == AT_ONCE:
            all_there.set()
        async with asyncio.timeout(30):
            await all_there.wait()
        await answer(call)(call)

    return reply


async def test_all_callers_at_once_learn_that_a_server_counts_no_tokens(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    missing = together(lambda _: refuses(404, {"error": "Not Found"}))
    faults.on("/v1/chat/completions/input_tokens", missing)
    faults.on("/tokenize", answers({"count": 7}))
    counts = await asyncio.gather(
        *(backend.count_tokens(HELLO.messages) for _ in range(AT_ONCE)),
    )
    assert counts == [7] * AT_ONCE
    assert await backend.count_tokens(HELLO.messages) == 7
    assert len(faults.calls) == 2 * AT_ONCE + 1


async def test_all_callers_at_once_learn_the_name_of_a_limit(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    refused = refuses(400, {"error": {"message": "Unsupported", "param": "max_tokens"}})
    faults.on_chat(together(lambda call: refused if "max_tokens" in call.body else says("yes")))
    told = await asyncio.gather(*(backend.chat(HELLO) for _ in range(AT_ONCE)))
    assert [answer.text for answer in told] == ["yes"] * AT_ONCE


async def test_all_callers_at_once_learn_that_a_server_serves_another_model(
    faults: FaultServer,
) -> None:
    old, new = ({"data": [{"id": name}]} for name in ("old", "new"))
    gone = refuses(404, {"error": {"message": "The model `old` does not exist.", "code": 404}})
    faults.on("/v1/models", answers(old), answers(new))
    faults.on_chat(together(lambda call: gone if call.body["model"] == "old" else says("yes")))
    async with new_client() as http:
        backend = VllmBackend(ModelServer(http, faults.url, key=None, deadlines=PATIENT))
        assert await backend.model() == "old"
        told = await asyncio.gather(*(backend.chat(HELLO) for _ in range(AT_ONCE)))
    assert [answer.text for answer in told] == ["yes"] * AT_ONCE


async def test_all_callers_at_once_learn_that_images_need_no_format(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    refused = refuses(400, {"error": {"message": "Unknown", "param": "response_format"}})
    good = answers({"data": [{"b64_json": "aGk="}]})
    faults.on(
        "/v1/images/generations",
        together(lambda call: refused if "response_format" in call.body else good),
    )
    made = await asyncio.gather(*(backend.image(ImageRequest("a fox")) for _ in range(AT_ONCE)))
    assert [answer.images for answer in made] == [(b"hi",)] * AT_ONCE


async def test_many_who_ask_what_a_server_can_do_share_one_probe_within_its_limits(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    limits = Limits(in_flight=1, per_minute=None, lease_s=30, max_closed_s=60)
    admission = LocalAdmission(limits)
    in_calls = 0

    @asynccontextmanager
    async def admitted() -> AsyncIterator[None]:
        nonlocal in_calls
        async with gated_call(admission, faults.url, patience_s=60, rng=Random(1)):
            in_calls += 1
            yield

    asking = [asyncio.create_task(backend.capabilities(admitted)) for _ in range(20)]
    await until(lambda: faults.calls)
    asking.pop(0).cancel()  # the one that began it goes away
    found = await asyncio.gather(*asking)
    assert len(set(map(id, found))) == 1
    assert len(faults.chats) == in_calls == 1
    await backend.capabilities(admitted)
    assert len(faults.chats) == 1


async def test_a_probe_that_failed_fails_all_who_wait_and_is_made_again(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    faults.on_chat(refuses(503, {"error": {"message": "Loading model"}}), says("yes"))
    told = await asyncio.gather(*(backend.capabilities() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in told] == [LLMServerError] * 3
    assert (await backend.capabilities()).streaming


# What goes wrong.


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refuses(429, {"error": {}}, Retry_After="3"), RateLimitError),
        (refuses(503, {"error": {"message": "Loading model", "code": 503}}), LLMServerError),
        (refuses(401, {"error": "Unauthorized"}), AuthenticationError),
        (refuses(404, {"error": {"message": "no such model"}}), LLMClientError),
        (refuses(302, "", Location="http://elsewhere/"), LLMClientError),
        (says("half", finish=None, done=False), LLMServerError),
        (says("half", finish=None), LLMServerError),
        (sends(STREAM_HEAD + b"data: {not json\n\n"), LLMServerError),
        (sends(STREAM_HEAD + b'data: {"choices": "many"}\n\n'), LLMServerError),
        (answers({"choices": []}), LLMServerError),
        (answers(["what"]), LLMServerError),
        (
            sends(STREAM_HEAD + piece("half") + event({"error": {"code": 500, "message": "oops"}})),
            LLMServerError,
        ),
        (
            sends(
                STREAM_HEAD
                + event({"error": {"code": 500, "message": "x does not match the expected format"}})
            ),
            SamplingFailed,
        ),
        (
            sends(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n"
            ),
            LLMConnectionError,
        ),
        (
            sends(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b'Content-Length: 900\r\n\r\n{"choices"'
            ),
            LLMConnectionError,
        ),
        (sends(b""), LLMConnectionError),
        (sends(b"SMTP ready\r\n\r\n"), LLMConnectionError),
    ],
    ids=[
        "429",
        "503 while loading",
        "401 as a text",
        "404",
        "redirect",
        "stream without an end",
        "stream without a reason",
        "event that is no JSON",
        "event of another shape",
        "no choices",
        "another document",
        "error after 200",
        "sampling failure after 200",
        "chunk cut",
        "body cut",
        "closed at once",
        "not HTTP",
    ],
)
async def test_each_fault_of_a_server_is_mapped_to_its_error(
    faults: FaultServer, backend: OpenAIBackend, reply: Reply, kind: type[LLMError]
) -> None:
    faults.on_chat(reply)
    with pytest.raises(LLMError) as caught:
        await backend.chat(HELLO)
    assert type(caught.value) is kind
    assert faults.url in str(caught.value)
    assert KEY not in str(caught.value)
    assert "hello" not in str(caught.value)
    assert len(faults.calls) == 1


async def test_a_server_that_is_down_is_named_without_its_credentials() -> None:
    async with new_client() as http:
        url = "http://user:hidden@127.0.0.1:1/v1"
        backend = OpenAIBackend(ModelServer(http, url, key=KEY, deadlines=PATIENT), model="m")
        with pytest.raises(LLMConnectionError, match=r"http://127\.0\.0\.1:1: no conn") as caught:
            await backend.chat(HELLO)
    assert "hidden" not in str(caught.value)
    assert "LLM_SERVER_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "limit", "phase"),
    [
        (stalls(), "first_token_s", "first token"),
        (stalls(after=STREAM_HEAD + b": ping\n\n"), "first_token_s", "first token"),
        (stalls(after=STREAM_HEAD + piece("a")), "stall_s", "stall"),
    ],
    ids=["silent", "only a comment", "silent after a token"],
)
async def test_a_server_that_stalls_is_left_and_notices(
    faults: FaultServer, reply: Reply, limit: str, phase: str
) -> None:
    faults.on_chat(reply)
    setting = f"LLM_{limit.removesuffix('_s').upper()}_TIMEOUT_S"
    async with hasty(faults, limit) as backend:
        with pytest.raises(LLMTimeoutError, match=setting) as caught:
            await backend.chat(HELLO)
    assert caught.value.phase == phase
    await asyncio.wait_for(faults.calls[0].closed.wait(), 60)


async def test_a_slow_listener_is_not_the_servers_fault(
    faults: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, ahead_s = asyncio.get_running_loop(), 0.0
    loop_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: loop_time() + ahead_s)

    async def slow(_: str) -> None:
        nonlocal ahead_s
        ahead_s += 2 * PATIENT.stall_s  # every timer that is set for less than this is due now
        await asyncio.sleep(0.001)

    deadlines = replace(PATIENT, whole_s=1_000)
    async with new_client() as http:
        server = ModelServer(http, faults.url, key=None, deadlines=deadlines)
        answer = await OpenAIBackend(server, model="m").chat(HELLO, on_text=slow)
    assert answer.text == "yes"


async def test_a_call_has_an_end_however_the_server_trickles(faults: FaultServer) -> None:
    async def trickle(call: object) -> None:
        await stalls(after=STREAM_HEAD + piece("a"))(call)  # type: ignore[arg-type]

    faults.on_chat(trickle)
    deadlines = Deadlines(connect_s=20, first_token_s=60, stall_s=60, whole_s=0.5)
    async with new_client() as http:
        server = ModelServer(http, faults.url, key=None, deadlines=deadlines)
        with pytest.raises(LLMTimeoutError, match="LLM_TIMEOUT_S") as caught:
            await OpenAIBackend(server, model="m").chat(HELLO)
    assert caught.value.phase == "whole"


async def test_cancelling_a_call_closes_its_request(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    faults.on_chat(stalls(after=STREAM_HEAD + piece("a")))
    call = asyncio.create_task(backend.chat(HELLO))
    await until(lambda: faults.calls, 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(faults.calls[0].closed.wait(), 60)


async def test_an_answer_without_bounds_is_given_up(
    faults: FaultServer, backend: OpenAIBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_STREAM_BYTES", 10_000)
    faults.on_chat(sends(STREAM_HEAD + piece("x" * 500) * 100))
    with pytest.raises(LLMServerError, match="over 10,000 bytes"):
        await backend.chat(HELLO)
    monkeypatch.setattr(client, "MAX_JSON_BYTES", 10_000)
    faults.on("/v1/models", answers({"data": [{"id": "x" * 20_000}]}))
    with pytest.raises(LLMServerError, match="over 10,000 bytes"):
        await backend._context_tokens()


# Asked, not assumed.


async def test_capabilities_are_what_the_server_answers(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    refusal = refuses(400, {"error": {"message": "response_format is not supported"}})
    faults.on_chat(refusal, says("yes"))
    faults.on("/v1/models", answers({"data": [{"id": "m", "context_length": 8192}]}))
    faults.on("/v1/audio/speech", refuses(422, {"detail": "input: field required"}))
    found = await backend.capabilities()
    assert not found.schema_output
    assert not found.logprobs
    assert not found.token_count
    assert found.streaming
    assert not found.images
    assert found.speech
    assert found.context_tokens == 8192
    seen = len(faults.calls)
    assert await backend.capabilities() == found
    assert len(faults.calls) == seen, "asked once"


async def test_a_model_that_is_not_named_is_the_first_listed(faults: FaultServer) -> None:
    faults.on("/v1/models", answers({"data": [{"id": "first"}, {"id": "second"}]}))
    async with new_client() as http:
        backend = OpenAIBackend(ModelServer(http, faults.url, key=None, deadlines=PATIENT))
        await backend.chat(HELLO)
        await backend.chat(HELLO)
    assert [call.body["model"] for call in faults.chats] == ["first", "first"]
    assert len(faults.calls) == 3


# vLLM, by its documented contract.


@pytest.fixture
async def vllm(faults: FaultServer) -> AsyncIterator[VllmBackend]:
    async with new_client() as http:
        yield VllmBackend(ModelServer(http, faults.url, key=KEY, deadlines=PATIENT), model="m")


async def test_vllm_counts_tokens_at_tokenize(faults: FaultServer, vllm: VllmBackend) -> None:
    """https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#tokenizer-api"""
    reply = {"count": 7, "max_model_len": 4096, "tokens": [1] * 7, "token_strs": None}
    faults.on("/tokenize", answers(reply))
    assert await vllm.count_tokens(HELLO.messages) == 7
    (call,) = faults.calls
    assert call.body == {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def test_vllm_lists_the_context_of_its_models(faults: FaultServer, vllm: VllmBackend) -> None:
    """https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html: `max_model_len`"""
    card = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 4096}
    faults.on("/v1/models", answers({"object": "list", "data": [card]}))
    faults.on("/tokenize", answers({"count": 7, "max_model_len": 4096, "tokens": []}))
    found = await vllm.capabilities()
    assert (found.context_tokens, found.token_count) == (4096, True)


async def test_vllm_refuses_a_long_prompt_in_words(faults: FaultServer, vllm: VllmBackend) -> None:
    """https://github.com/vllm-project/vllm/pull/33425: the envelope, with `param`"""
    said = (
        "This model's maximum context length is 2048 tokens. However, your request has 3000 input "
        "tokens. Please reduce the length of the input messages. (parameter=input_tokens)"
    )
    envelope = {"message": said, "type": "BadRequestError", "param": "input_tokens", "code": 400}
    faults.on_chat(refuses(400, {"error": envelope}))
    with pytest.raises(ContextOverflow) as caught:
        await vllm.chat(HELLO)
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (3000, 2048)


async def test_vllm_says_503_when_its_queue_is_full(faults: FaultServer, vllm: VllmBackend) -> None:
    """https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html"""
    envelope = {"message": "queue is full", "type": "ServiceUnavailable", "code": 503}
    faults.on_chat(refuses(503, {"error": envelope}))
    with pytest.raises(LLMServerError):
        await vllm.chat(HELLO)


# Images and speech, by OpenAI's documented contract.


async def test_images_come_as_base64(faults: FaultServer, backend: OpenAIBackend) -> None:
    """https://platform.openai.com/docs/api-reference/images/create"""
    usage = {"input_tokens": 9, "output_tokens": 30, "total_tokens": 39}
    images = [{"b64_json": "UE5H"}, {"b64_json": "SlBH"}]
    faults.on("/v1/images/generations", answers({"data": images, "usage": usage}))
    answer = await backend.image(ImageRequest("a cat", size="512x512", n=2))
    assert (answer.images, answer.usage) == ((b"PNG", b"JPG"), Usage(9, 30))
    assert faults.calls[0].body == {
        "model": "m",
        "prompt": "a cat",
        "size": "512x512",
        "n": 2,
        "response_format": "b64_json",
    }


async def test_a_server_that_refuses_a_format_of_images_is_not_asked_for_one(
    faults: FaultServer, backend: OpenAIBackend
) -> None:
    """https://platform.openai.com/docs/api-reference/images/create: not for GPT image models."""
    said = {"message": "Unknown parameter: 'response_format'.", "param": "response_format"}
    images = answers({"data": [{"b64_json": "UE5H"}]})
    seen: list[bool] = []

    async def answer(call: Call) -> None:
        seen.append("response_format" in call.body)
        await (refuses(400, {"error": said}) if seen[-1] else images)(call)

    faults.on("/v1/images/generations", answer)
    for _ in range(2):
        assert (await backend.image(ImageRequest("a cat"))).images == (b"PNG",)
    assert seen == [True, False, False]


@pytest.mark.parametrize("document", [{}, {"data": []}, {"data": [{"b64_json": "?"}]}])
async def test_images_that_are_not_images_are_the_servers_error(
    faults: FaultServer, backend: OpenAIBackend, document: object
) -> None:
    faults.on("/v1/images/generations", answers(document))
    with pytest.raises(LLMServerError, match="no images"):
        await backend.image(ImageRequest("a cat"))


async def test_speech_comes_as_bytes(faults: FaultServer, backend: OpenAIBackend) -> None:
    """https://platform.openai.com/docs/api-reference/audio/createSpeech"""
    sound = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: 4\r\n\r\nRIFF"
    faults.on("/v1/audio/speech", sends(sound))
    answer = await backend.speech(SpeechRequest("Miaow.", "alloy"))
    assert answer.audio == b"RIFF"
    assert faults.calls[0].body == {
        "model": "m",
        "input": "Miaow.",
        "voice": "alloy",
        "response_format": "wav",
    }
    with pytest.raises(InvalidInputError, match="4,096"):
        await backend.speech(SpeechRequest("x" * 4097, "alloy"))
    assert len(faults.calls) == 1


# The doctor.


def set_to(url: str | None, **values: Any) -> Settings:
    return default_settings(llm_server_url=None if url is None else SecretStr(url), **values)


async def test_the_doctor_says_which_model_is_loaded(faults: FaultServer) -> None:
    faults.on("/v1/models", answers({"data": [{"id": "m"}]}))
    (finding,) = await check_llm(set_to(faults.url))
    assert finding.level is Level.OK
    assert f"openai at {faults.url} has m loaded" in finding.text


async def test_the_doctor_says_what_is_wrong_and_what_to_do(faults: FaultServer) -> None:
    faults.on_chat(
        refuses(401, {"error": "Unauthorized"}),
        refuses(404, {"error": {"message": "no such model"}}),
        refuses(503, {"error": {"message": "Loading model", "code": 503}}),
    )
    settings = set_to(faults.url, llm_model="m")
    found = [(await check_llm(settings))[0] for _ in range(3)]
    assert [each.level for each in found] == [Level.BAD, Level.BAD, Level.AWAY]
    assert [word in each.remedy for word, each in zip(WORDS, found, strict=True)] == [True] * 3
    (down,) = await check_llm(set_to("http://127.0.0.1:1", llm_model="m"))
    assert down.level is Level.AWAY
    (none,) = await check_llm(set_to(None))
    assert none.level is Level.OK


WORDS = ("LLM_API_KEY", "LLM_MODEL", "start it")
