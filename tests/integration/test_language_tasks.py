"""Each task that needs a model, on a real llama.cpp server: the text is noise, all else is real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import workers_general.main  # noqa: F401 - binds the tasks
from api_shared.broker import broker
from api_shared.client.requests import record_request
from api_shared.contracts.language import (
    EXTRACT_KEYWORDS,
    GENERATE_TEXT,
    NORMALIZE_JSON,
    PROCESS_JOB,
    SUMMARIZE_TEXT,
    ExtractKeywordsArgs,
    GenerateTextArgs,
    GenerationParameters,
    NormalizeJsonArgs,
    ProcessJobArgs,
    SummarizeTextArgs,
)
from api_shared.errors import JobFailed
from api_shared.testing import Place, default_settings, running_in_place
from workers_general.llm.schemas import Schema
from workers_general.text.words import count_words

LICENSE = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
SHORT = GenerationParameters(max_tokens=40, seed=7)
MOOD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["mood", "score"],
    "additionalProperties": False,
}


def settings_for(url: str, folder: Path) -> Any:
    return default_settings(
        llm_backend="llamacpp",
        llm_server_url=SecretStr(url),
        storage_url=f"file:{folder}",
        task_max_retries=0,
    )


@pytest.fixture
async def place(llama_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with running_in_place(broker, settings=settings_for(llama_url, tmp_path)) as place:
        yield place


async def test_a_short_text_is_one_part(place: Place) -> None:
    args = SummarizeTextArgs(text=LICENSE, max_length=20, language="de", parameters=SHORT)
    handle = await SUMMARIZE_TEXT.kiq(args)
    result = await handle.result()

    job = await place.ledger.get(handle.task_id)
    assert job is not None
    assert (result.method, result.backend, result.model) == ("model", "llamacpp", "random")
    assert (result.parts, result.language, result.prompt) == (1, "de", "summarize.v1")
    assert 0 < result.summary_length == count_words(result.summary) <= 20
    assert result.cut, "this model writes on until it is stopped"
    assert job.usage["completion_tokens"] == 40
    assert job.usage["prompt_tokens"] > len(LICENSE) / 2


@pytest.mark.usefixtures("place")
async def test_a_text_over_the_context_is_split_by_the_servers_own_count() -> None:
    """A part that were too long would fail: the server refuses what overflows its context."""
    text = f"{LICENSE}\n\n" * 12

    result = await (
        await SUMMARIZE_TEXT.kiq(SummarizeTextArgs(text=text, max_length=20, parameters=SHORT))
    ).result()

    assert result.parts >= 3
    assert result.levels >= 2
    assert result.language == "en"


@pytest.mark.usefixtures("place")
async def test_keywords_keep_to_their_schema() -> None:
    parameters = GenerationParameters(max_tokens=400, seed=7)
    args = ExtractKeywordsArgs(text=LICENSE, max_keywords=2, parameters=parameters)
    result = await (await EXTRACT_KEYWORDS.kiq(args)).result()

    assert 1 <= result.count <= 2
    assert all(0 <= score <= 1 for score in result.scores)
    assert (result.score, result.method, result.backend) == ("model_rating", "model", "llamacpp")


@pytest.mark.usefixtures("place")
async def test_what_is_normalised_is_valid_and_its_confidence_is_the_servers_probabilities() -> (
    None
):
    args = NormalizeJsonArgs(
        request={"text": "I feel fine"}, json_schema=MOOD, parameters=GenerationParameters(seed=3)
    )
    result = await (await NORMALIZE_JSON.kiq(args)).result()

    assert Schema(MOOD).problems_of(result.normalized) == ()
    assert result.confidence_from == "token_probability"
    assert result.confidence is not None
    assert 0 < result.confidence < 1


@pytest.mark.usefixtures("place")
async def test_the_agreement_of_samples_is_a_confidence_too() -> None:
    args = NormalizeJsonArgs(request="I feel fine", json_schema={"enum": ["good"]}, samples=3)
    result = await (await NORMALIZE_JSON.kiq(args)).result()

    assert (result.normalized, result.confidence) == ("good", 1)
    assert (result.confidence_from, result.samples) == ("agreement", 3)


@pytest.mark.usefixtures("place")
async def test_text_is_generated_with_the_jobs_own_parameters() -> None:
    args = GenerateTextArgs(prompt="Write.", parameters=SHORT)
    one, other = [await (await GENERATE_TEXT.kiq(args)).result() for _ in range(2)]

    assert one.text == other.text, "the same seed"
    assert (one.finish_reason, one.usage.completion_tokens) == ("length", 40)


@pytest.mark.usefixtures("place")
async def test_text_with_a_schema_comes_as_its_value() -> None:
    args = GenerateTextArgs(prompt="How are you?", json_schema=MOOD)
    result = await (await GENERATE_TEXT.kiq(args)).result()

    assert Schema(MOOD).read(result.text) == (result.value, ())


async def test_a_recorded_request_is_run_by_the_model(place: Place) -> None:
    request = {"prompt": "Write.", "parameters": {"max_tokens": 8}}
    record_id = await record_request("text", request)
    await (await PROCESS_JOB.kiq(ProcessJobArgs(job_id=record_id))).result()

    record = await place.ledger.requests.get(record_id)
    assert record is not None
    assert record.result is not None
    assert record.result["usage"]["completion_tokens"] == 8


async def test_a_prompt_over_the_context_fails_at_once_with_both_sizes(place: Place) -> None:
    handle = await GENERATE_TEXT.kiq(GenerateTextArgs(prompt="long " * 3000))

    with pytest.raises(JobFailed, match=r"tokens, over 4,096"):
        await handle.result()
    job = await place.ledger.get(handle.task_id)
    assert job is not None
    assert job.claim_no == 1


async def test_a_wrong_key_fails_at_once_and_names_the_setting(
    locked_llama_url: str, tmp_path: Path
) -> None:
    async with running_in_place(broker, settings=settings_for(locked_llama_url, tmp_path)):
        handle = await GENERATE_TEXT.kiq(GenerateTextArgs(prompt="Write."))
        with pytest.raises(JobFailed, match="set LLM_API_KEY"):
            await handle.result()
