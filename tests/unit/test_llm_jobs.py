"""What a job's model calls promise, in place and with a scripted model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskiq import TaskiqDepends

from api_shared.client.job_broker import JobBroker
from api_shared.client.started_brokers import started
from api_shared.errors import JobFailed
from api_shared.job import Job, Reason, new_job_id
from api_shared.storage import StorageUnavailable, open_storage
from api_shared.testing import Place, default_settings, running_in_place
from workers_general.llm import (
    LLM,
    ChatRequest,
    ImageRequest,
    Message,
    Parameters,
    SpeechRequest,
    llm_of_job,
)
from workers_general.llm.call_journal import CallJournal
from workers_general.llm.errors import (
    InvalidSchema,
    LLMClientError,
    LLMServerError,
    SamplingFailed,
    SchemaValidationError,
)
from workers_general.llm.protocol import (
    ChatAnswer,
    ImageAnswer,
    OnText,
    SpeechAnswer,
    TokenLogprob,
    Usage,
)
from workers_general.testing import ScriptedModel, using_model

_before = dict(started)
broker = JobBroker("general")
started.update(_before)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(100)
YES_OR_NO = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}

runs: list[int] = []
steps: list[Callable[[LLM], Any]] = []
"""What the task does, each in turn; it runs all of them again when it is run again."""


@broker.task(task_name="converse", max_retries=3, backoff_s=0)
async def converse(llm: LLM = TaskiqDepends(llm_of_job)) -> list[Any]:
    runs.append(1)
    return [await step(llm) for step in list(steps)]


def ask(text: str, **parameters: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), Parameters(**parameters))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    runs.clear()
    steps.clear()
    settings = default_settings(
        storage_url=f"file:{tmp_path}", llm_temperature=0.5, llm_json_tries=3
    )
    async with running_in_place(broker, settings=settings) as opened:
        yield opened


async def job_of(place: Place, model: ScriptedModel) -> tuple[Job, Any]:
    """The job after its end, and its result or its error."""
    with using_model(model):
        handle = await converse.kiq()
    try:
        result: Any = await handle.result()
    except JobFailed as error:
        result = error
    job = await place.ledger.get(handle.task_id)
    assert job is not None
    return job, result


# Paid for once.


async def test_a_job_that_runs_again_gets_the_answers_it_has_paid_for(place: Place) -> None:
    async def first(llm: LLM) -> str:
        return (await llm.chat("first", ask("one"))).text

    async def second(llm: LLM) -> str:
        return (await llm.chat("second", ask("two"))).text

    steps.extend([first, second])
    model = ScriptedModel("eins", LLMServerError("scripted", "broken"), "zwei")
    job, result = await job_of(place, model)
    assert result == ["eins", "zwei"]
    assert len(runs) == 2
    prompts = [request.messages[-1].content for request in model.requests]  # type: ignore[union-attr]
    assert prompts == ["one", "two", "two"]
    assert job.usage == {"llm_calls": 2, "prompt_tokens": 2, "completion_tokens": 2}


async def test_another_request_of_the_same_step_is_another_call(place: Place) -> None:
    async def both(llm: LLM) -> list[str]:
        requests = [ask("one"), ask("two"), ask("one", seed=1), ask("one")]
        return [(await llm.chat("step", request)).text for request in requests]

    steps.append(both)
    _, result = await job_of(place, ScriptedModel("a", "b", "c"))
    assert result == [["a", "b", "c", "a"]]


async def test_an_answer_is_recalled_with_all_that_belongs_to_it(place: Place) -> None:
    paid = ChatAnswer(
        "é\n", "length", Usage(3, 4), "m", (TokenLogprob("é", -0.25), TokenLogprob("\n", -9999.0))
    )
    seen: list[ChatAnswer] = []

    async def twice(llm: LLM) -> None:
        seen.extend([await llm.chat("s", ask("x")), await llm.chat("s", ask("x"))])

    steps.append(twice)
    await job_of(place, ScriptedModel(paid))
    assert seen == [paid, paid]


async def test_a_long_answer_is_stored_and_recalled(place: Place, tmp_path: Path) -> None:
    long = "word " * 100_000

    async def twice(llm: LLM) -> list[int]:
        return [len((await llm.chat("s", ask("x"))).text) for _ in range(2)]

    steps.append(twice)
    job, result = await job_of(place, ScriptedModel(long))
    assert result == [[len(long), len(long)]]
    assert all(len(text) < 1000 for text in job.journal.values())
    assert len(open_storage(f"file:{tmp_path}").list(f"jobs/{job.id}")) == 1


async def test_what_is_asked_before_a_call_leaves_the_rate_to_the_call(tmp_path: Path) -> None:
    """Else a job that comes again spends the rate on it again, and never comes to its call."""

    async def count_and_call(llm: LLM) -> str:
        await llm.capabilities()
        await llm.count_tokens((Message("user", "one"),))
        return (await llm.chat("first", ask("one"))).text

    runs.clear()
    steps[:] = [count_and_call]
    settings = default_settings(
        storage_url=f"file:{tmp_path}", llm_requests_per_minute=1, llm_patience_s=0.1
    )
    async with running_in_place(broker, settings=settings) as place:
        _, result = await job_of(place, ScriptedModel("eins"))
    assert (result, len(runs)) == (["eins"], 1)


async def test_an_answer_is_paid_for_once_though_the_storage_is_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def save(self, key: str, data: bytes) -> None:
            raise StorageUnavailable("file:/away", "no such disk")

    async def twice(llm: LLM) -> list[int]:
        return [len((await llm.chat("s", ask("x"))).text) for _ in range(2)]

    monkeypatch.setattr("workers_general.llm.call_journal.storage_at", lambda _: Away())
    steps.append(twice)
    job, result = await job_of(place, ScriptedModel("a" * 5000))
    assert result == [[5000, 5000]]
    assert job.usage["llm_calls"] == 1


async def test_what_another_run_stores_replaces_nothing(tmp_path: Path) -> None:
    """A run that has lost its claim may still store what it got."""
    job: Any = SimpleNamespace(id=new_job_id())
    journal = CallJournal(job, f"file:{tmp_path}")
    ours = await journal.store_file("image-0", "png", "image/png", PNG)
    late = await journal.store_file("image-0", "png", "image/png", PNG + b"late")
    storage = open_storage(f"file:{tmp_path}")
    assert (storage.load(ours.key), storage.load(late.key)) == (PNG, PNG + b"late")


async def test_an_answer_whose_file_is_gone_is_asked_for_again(
    place: Place, tmp_path: Path
) -> None:
    async def twice(llm: LLM) -> list[int]:
        first = len((await llm.chat("s", ask("x"))).text)
        storage = open_storage(f"file:{tmp_path}")
        for key in storage.list("jobs"):
            storage.delete(key)
        return [first, len((await llm.chat("s", ask("x"))).text)]

    steps.append(twice)
    _, result = await job_of(place, ScriptedModel("a" * 5000, "b"))
    assert result == [[5000, 1]]


async def test_a_step_without_a_usable_name_is_refused(place: Place) -> None:
    async def call(llm: LLM) -> None:
        await llm.chat("x" * 101, ask("x"))

    steps.append(call)
    job, _ = await job_of(place, ScriptedModel("never asked"))
    assert job.error is not None
    assert job.error.type == "InvalidOption"


async def test_parameters_are_the_jobs_own_then_the_settings(place: Place) -> None:
    async def call(llm: LLM) -> None:
        await llm.chat("a", ask("x", temperature=0.0, max_tokens=5))
        await llm.chat("b", ask("x"))

    steps.append(call)
    model = ScriptedModel("1", "2")
    await job_of(place, model)
    assert [request.parameters for request in model.requests] == [  # type: ignore[union-attr]
        Parameters(temperature=0.0, max_tokens=5),
        Parameters(temperature=0.5),
    ]


# Sampling failures and streams.


async def test_a_sampling_failure_is_tried_again_with_another_seed(place: Place) -> None:
    async def call(llm: LLM) -> str:
        return (await llm.chat("a", ask("x"))).text

    steps.append(call)
    model = ScriptedModel(*[SamplingFailed("scripted", "no")] * 2, "good")
    _, result = await job_of(place, model)
    assert result == ["good"]
    assert len(runs) == 1
    seeds = [request.parameters.seed for request in model.requests]  # type: ignore[union-attr]
    assert len(set(seeds)) == 3


async def test_text_is_streamed_as_it_comes_and_as_a_whole_when_recalled(place: Place) -> None:
    pieces: list[str] = []

    async def listen(text: str) -> None:
        pieces.append(text)

    async def twice(llm: LLM) -> None:
        for _ in range(2):
            await llm.chat("a", ask("x"), on_text=listen)

    steps.append(twice)
    await job_of(place, ScriptedModel("one\ntwo\n"))
    assert pieces == ["one\n", "two\n", "one\ntwo\n"]


class BreaksOff(ScriptedModel):
    """Its first stream fails after its first piece."""

    async def chat(self, request: ChatRequest, *, on_text: OnText | None = None) -> ChatAnswer:
        if not self.requests:
            self.requests.append(request)
            assert on_text is not None
            await on_text("half ")
            raise SamplingFailed("scripted", "no")
        return await super().chat(request, on_text=on_text)


async def test_a_stream_that_was_heard_is_not_begun_again_within_a_run(place: Place) -> None:
    heard: list[tuple[int, str]] = []

    async def listen(text: str) -> None:
        heard.append((len(runs), text))

    async def call(llm: LLM) -> None:
        await llm.chat("a", ask("x"), on_text=listen)

    steps.append(call)
    await job_of(place, BreaksOff("unused", "whole"))
    assert heard == [(1, "half "), (2, "whole")], "the second run sends the whole text"


# Output contract.


async def ask_json(llm: LLM) -> Any:
    answer = await llm.chat_json("j", ask("Is it?"), YES_OR_NO)
    return [answer.value, answer.tries, answer.answer.usage.completion_tokens]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("Well, yes.", "it is not JSON"),
        ('{"answer": "perhaps"}', 'is not one of "yes" or "no"'),
        (ChatAnswer('{"answer": "y', "length", Usage(1, 2), "m"), "it was truncated"),
    ],
)
async def test_bad_output_is_repaired_with_its_error_shown_and_kept(
    place: Place, bad: str | ChatAnswer, problem: str
) -> None:
    steps.append(ask_json)
    model = ScriptedModel(bad, '{"answer": "no"}')
    job, result = await job_of(place, model)
    assert result[0][:2] == [{"answer": "no"}, 2]
    raw = bad if isinstance(bad, str) else bad.text
    first, second = model.requests
    assert isinstance(first, ChatRequest)
    assert isinstance(second, ChatRequest)
    assert first.schema == second.schema == YES_OR_NO
    assert first.parameters.seed != second.parameters.seed
    assert [each.role for each in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].content == raw
    assert problem in second.messages[2].content
    assert any(json.loads(text)["answer"]["text"] == raw for text in job.journal.values())
    assert job.usage["llm_calls"] == 2


async def test_a_number_that_was_cut_is_asked_for_again(place: Place) -> None:
    async def number(llm: LLM) -> Any:
        return (await llm.chat_json("n", ask("How many?"), {"type": "integer"})).value

    steps.append(number)
    cut = ChatAnswer("12", "length", Usage(), "m")
    _, result = await job_of(place, ScriptedModel(cut, "1234567"))
    assert result == [1234567]


async def test_output_that_stays_bad_fails_for_good_and_is_not_in_the_message(
    place: Place,
) -> None:
    steps.append(ask_json)
    model = ScriptedModel(*["the secret output"] * 3)
    job, result = await job_of(place, model)
    assert isinstance(result, JobFailed)
    assert result.reason == Reason.PERMANENT_ERROR
    assert job.error is not None
    assert job.error.type == "SchemaValidationError"
    assert "secret" not in job.error.message
    assert len(model.requests) == 3
    assert len(runs) == 1


async def test_tries_that_are_used_up_are_not_recalled_as_new_ones(place: Place) -> None:
    async def until_valid(llm: LLM) -> Any:
        try:
            return await ask_json(llm)
        except SchemaValidationError as error:
            assert error.raw == "bad 3"
            return await ask_json(llm)

    steps.append(until_valid)
    model = ScriptedModel("bad 1", "bad 2", "bad 3", '{"answer": "yes"}')
    _, result = await job_of(place, model)
    assert result[0][0] == {"answer": "yes"}
    assert len(model.requests) == 4


async def test_a_server_that_refuses_the_schema_gets_it_in_the_prompt(place: Place) -> None:
    steps.append(ask_json)
    model = ScriptedModel(LLMClientError("s", "no such field", status=400), '{"answer": "yes"}')
    _, result = await job_of(place, model)
    assert result[0][:2] == [{"answer": "yes"}, 1]
    said = model.requests[1]
    assert isinstance(said, ChatRequest)
    assert said.schema is None
    assert said.messages[0].role == "system"
    assert json.dumps(YES_OR_NO) in said.messages[0].content


async def test_a_hostile_schema_fails_the_job_before_anything_is_asked(place: Place) -> None:
    async def call(llm: LLM) -> None:
        await llm.chat_json("j", ask("x"), {"$ref": "http://evil/schema"})

    steps.append(call)
    model = ScriptedModel("never asked")
    job, _ = await job_of(place, model)
    assert job.error is not None
    assert job.error.type == InvalidSchema.__name__
    assert model.requests == []


# Files.


async def test_images_and_speech_are_stored_once_with_their_kind(
    place: Place, tmp_path: Path
) -> None:
    async def make(llm: LLM) -> list[Any]:
        files = [await llm.image("i", ImageRequest("a cat", n=2)) for _ in range(2)]
        speech = [await llm.speech("s", SpeechRequest("Miaow.", "alloy")) for _ in range(2)]
        assert files[0] == files[1]
        assert speech[0] == speech[1]
        return [[each.key, each.content_type, each.size_bytes] for each in (*files[0], speech[0])]

    steps.append(make)
    model = ScriptedModel(ImageAnswer((PNG, PNG), "m", Usage(5, 0)), SpeechAnswer(WAV, "m"))
    job, result = await job_of(place, model)
    assert [each[1:] for each in result[0]] == [
        ["image/png", len(PNG)],
        ["image/png", len(PNG)],
        ["audio/wav", len(WAV)],
    ]
    storage = open_storage(f"file:{tmp_path}")
    assert [storage.load(key) for key, *_ in result[0]] == [PNG, PNG, WAV]
    assert job.usage["images"] == 2
    assert job.usage["speech_characters"] == 6


@pytest.mark.parametrize("answer", [ImageAnswer((b"<html>",), "m"), SpeechAnswer(b"<html>", "m")])
async def test_a_file_that_is_not_what_was_asked_for_is_the_servers_error(
    place: Place, answer: ImageAnswer | SpeechAnswer
) -> None:
    async def make(llm: LLM) -> None:
        if isinstance(answer, ImageAnswer):
            await llm.image("i", ImageRequest("a cat"))
        else:
            await llm.speech("s", SpeechRequest("Miaow.", "alloy"))

    steps.append(make)
    job, _ = await job_of(place, ScriptedModel(*[answer] * 4))
    assert job.error is not None
    assert job.error.type == "LLMServerError"
    assert len(runs) == 4


# No server.


async def test_without_a_server_a_call_fails_at_once_and_says_what_to_set(place: Place) -> None:
    async def call(llm: LLM) -> None:
        assert llm.backend == "extractive"
        assert not llm.available
        await llm.chat("a", ask("x"))

    steps.append(call)
    handle = await converse.kiq()
    with pytest.raises(JobFailed, match="converse needs a model: set LLM_SERVER_URL") as failed:
        await handle.result()
    assert failed.value.reason == Reason.PERMANENT_ERROR
    assert len(runs) == 1


async def test_a_script_that_ends_too_early_says_so(place: Place) -> None:
    async def call(llm: LLM) -> None:
        await llm.chat("a", ask("x"))

    steps.append(call)
    job, _ = await job_of(place, ScriptedModel())
    assert job.error is not None
    assert "the script has 0 answers" in job.error.message
