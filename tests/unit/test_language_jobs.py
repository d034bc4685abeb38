"""The language tasks, run in place: without a server, and with a scripted model."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import workers_general.main  # noqa: F401 - binds the tasks
from api_shared.broker import broker
from api_shared.client.requests import record_request
from api_shared.contracts.language import (
    EXTRACT_KEYWORDS,
    GENERATE_IMAGE,
    GENERATE_SPEECH,
    GENERATE_TEXT,
    NORMALIZE_JSON,
    PROCESS_JOB,
    SUMMARIZE_TEXT,
    ExtractKeywordsArgs,
    GenerateImageArgs,
    GenerateSpeechArgs,
    GenerateTextArgs,
    NormalizeJsonArgs,
    ProcessJobArgs,
    SummarizeTextArgs,
)
from api_shared.errors import InvalidArguments, JobFailed
from api_shared.job import Job, Status, new_job_id
from api_shared.ledger.memory.requests import MemoryRequests
from api_shared.ledger.requests import RecordedRequest, RecordStatus
from api_shared.ledger.transitions import cancel_waiting
from api_shared.storage import digest_of, open_storage
from api_shared.testing import Place, default_settings, running_in_place
from fixtures.ledgers import inserted
from workers_general.llm.errors import LLMServerError
from workers_general.llm.protocol import ImageAnswer, SpeechAnswer
from workers_general.testing import ScriptedModel, using_model
from workers_general.text.sentences import split_sentences

LICENSE = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def wav(seconds: float, *, header_frames: int | None = None) -> bytes:
    """Mono, 16 bit, 8,000 Hz. `header_frames`: how long its header says it is."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * int(8000 * seconds))
    written = bytearray(data.getvalue())
    if header_frames is not None:
        written[40:44] = (header_frames * 2).to_bytes(4, "little")
    return bytes(written)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    settings = default_settings(storage_url=f"file:{tmp_path}")
    async with running_in_place(broker, settings=settings) as place:
        yield place


async def job_of(place: Place, job_id: str) -> Job:
    job = await place.ledger.get(job_id)
    assert job is not None
    return job


# With no server.


@pytest.mark.usefixtures("place")
async def test_a_summary_without_a_server_says_that_it_is_the_texts_own_sentences() -> None:
    handle = await SUMMARIZE_TEXT.kiq(SummarizeTextArgs(text=LICENSE, max_length=60))

    result = await handle.result()

    assert (result.method, result.backend, result.language) == ("extractive", "extractive", "en")
    assert (result.model, result.prompt) == (None, None)
    assert 0 < result.summary_length <= 60 < result.original_length
    assert result.compression_ratio == round(result.summary_length / result.original_length, 4)
    flat = " ".join(LICENSE.split())
    for line in result.summary.splitlines():
        assert all(sentence.strip() in flat for sentence in split_sentences(line))


@pytest.mark.usefixtures("place")
async def test_keywords_without_a_server_say_that_their_scores_are_ranks() -> None:
    result = await (await EXTRACT_KEYWORDS.kiq(ExtractKeywordsArgs(text=LICENSE))).result()

    assert (result.score, result.method, result.language) == ("graph_rank", "extractive", "en")
    assert result.count == len(result.keywords) == len(result.scores) == 10
    assert "Software" in result.keywords


@pytest.mark.parametrize(
    ("contract", "args", "setting"),
    [
        (NORMALIZE_JSON, NormalizeJsonArgs(request="Ada", json_schema=PERSON), "LLM_SERVER_URL"),
        (GENERATE_TEXT, GenerateTextArgs(prompt="Write."), "LLM_SERVER_URL"),
        (GENERATE_IMAGE, GenerateImageArgs(prompt="A sea."), "LLM_IMAGE_SERVER_URL"),
        (GENERATE_SPEECH, GenerateSpeechArgs(text="Hello."), "LLM_SPEECH_SERVER_URL"),
    ],
)
async def test_a_task_that_needs_a_model_fails_at_once_and_says_what_to_set(
    place: Place, contract: Any, args: Any, setting: str
) -> None:
    handle = await contract.kiq(args)

    with pytest.raises(JobFailed, match=setting):
        await handle.result()
    job = await job_of(place, handle.task_id)
    assert job.error is not None
    assert (job.error.type, job.error.reason, job.claim_no) == (
        "ModelRequired",
        "permanent_error",
        1,
    )


# What is refused before a job is accepted.


@pytest.mark.parametrize(
    ("contract", "args", "problem"),
    [
        (SUMMARIZE_TEXT, {"text": " \n"}, "text: String should match"),
        (SUMMARIZE_TEXT, {"text": "x", "max_length": 4}, "max_length"),
        (SUMMARIZE_TEXT, {"text": "x", "language": "German"}, "language"),
        (SUMMARIZE_TEXT, {"text": "x", "parameters": {"temp": 1}}, "parameters.temp: Extra"),
        (GENERATE_TEXT, {}, "one of prompt and messages"),
        (GENERATE_TEXT, {"prompt": "x", "schema": {}, "stream": True}, "not validated yet"),
        (NORMALIZE_JSON, {"request": {}, "schema": {}}, "nothing to normalise"),
        (NORMALIZE_JSON, {"request": "x"}, "schema: Field required"),
        (GENERATE_SPEECH, {"text": "x" * 4097}, "split it at sentence bounds"),
        (GENERATE_IMAGE, {"prompt": "x", "size": "big"}, "size"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    contract: Any, args: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidArguments, match=problem):
        contract.parse((), args)


@pytest.mark.parametrize("contract", [NORMALIZE_JSON, GENERATE_TEXT])
def test_schema_is_called_schema_on_the_wire(contract: Any) -> None:
    given = {"schema": PERSON} | (
        {"request": "x"} if contract is NORMALIZE_JSON else {"prompt": "x"}
    )
    args = contract.parse((), given)

    written = json.loads(contract.encode_args(args))

    assert written["schema"] == PERSON
    assert "json_schema" not in written
    assert contract.parse((), written) == args == contract.parse((), dict(args))


# With a model.


@pytest.mark.usefixtures("place")
async def test_a_models_summary_says_which_model_and_which_prompt() -> None:
    with using_model(ScriptedModel("Kurz gesagt.")):
        handle = await SUMMARIZE_TEXT.kiq(SummarizeTextArgs(text=LICENSE, language="de"))
        result = await handle.result()

    assert (result.summary, result.method, result.language) == ("Kurz gesagt.", "model", "de")
    assert (result.backend, result.model) == ("scripted", "scripted-1")
    assert (result.prompt, result.parts, result.cut) == ("summarize.v1", 1, False)


async def test_a_summary_that_failed_between_two_parts_pays_for_each_part_once(
    place: Place,
) -> None:
    text = " ".join(f"This is sentence {number} of the text." for number in range(120))
    broken = LLMServerError("scripted", "status 500", status=500)
    parts = [f"Part {number}." for number in range(1, 4)]
    model = ScriptedModel(*parts, broken, *(["More."] * 20), context_tokens=500)

    with using_model(model):
        handle = await SUMMARIZE_TEXT.kiq(SummarizeTextArgs(text=text, max_length=20))
        result = await handle.result()

    asked = [request.messages[-1].content for request in model.requests]  # type: ignore[union-attr]
    assert asked[3] == asked[4], "what had failed is asked for again"
    assert len(asked) == len(set(asked)) + 1, "and nothing else"
    assert result.parts == len(asked) - 2
    assert (await job_of(place, handle.task_id)).attempt == 1


@pytest.mark.usefixtures("place")
async def test_keywords_by_a_model_say_that_their_scores_are_its_rating() -> None:
    answer = {"keywords": [{"keyword": "licence", "relevance": 80}]}
    with using_model(ScriptedModel(json.dumps(answer))):
        result = await (await EXTRACT_KEYWORDS.kiq(ExtractKeywordsArgs(text=LICENSE))).result()

    assert (result.keywords, result.scores, result.count) == (["licence"], [0.8], 1)
    assert (result.score, result.prompt) == ("model_rating", "keywords.v1")


@pytest.mark.usefixtures("place")
async def test_what_is_normalised_is_valid_and_what_is_not_is_asked_for_again() -> None:
    model = ScriptedModel('{"name": 7}', '{"name": "Ada"}')
    with using_model(model):
        args = NormalizeJsonArgs(request={"n": "ada"}, json_schema=PERSON)
        result = await (await NORMALIZE_JSON.kiq(args)).result()

    assert result.normalized == {"name": "Ada"}
    assert (result.confidence, result.confidence_from) == (None, None)
    assert len(model.requests) == 2


async def test_images_are_stored_and_named_by_their_bytes(place: Place, tmp_path: Path) -> None:
    with using_model(ScriptedModel(ImageAnswer((PNG, PNG + b"2"), "painter"))):
        args = GenerateImageArgs(prompt="A sea.", size="64x64", n=2)
        result = await (await GENERATE_IMAGE.kiq(args)).result()

    storage = open_storage(f"file:{tmp_path}")
    assert [image.content_type for image in result.images] == ["image/png"] * 2
    for image, data in zip(result.images, (PNG, PNG + b"2"), strict=True):
        assert storage.load(image.key) == data
        assert (image.sha256, image.size_bytes) == (digest_of(data), len(data))


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("audio", "duration_s"),
    [
        (wav(1.5), 1.5),
        (wav(1.5, header_frames=0x3FFF_FFFF), 1.5),
        (b"fLaC" + b"\0" * 40, None),
        (b"RIFF\0\0\0\0WAVE" + b"\0" * 8, None),
    ],
)
async def test_speech_has_a_duration_if_its_file_has_one(
    audio: bytes, duration_s: float | None
) -> None:
    with using_model(ScriptedModel(SpeechAnswer(audio, "speaker"))):
        result = await (await GENERATE_SPEECH.kiq(GenerateSpeechArgs(text="Hello."))).result()

    assert result.duration_s == pytest.approx(duration_s, abs=0.01)
    assert result.audio.size_bytes == len(audio)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.usefixtures("place")
async def test_a_text_can_be_followed_where_the_job_asks_for_it(stream: bool) -> None:
    text = "One line.\nAnother line.\nThe last."
    with using_model(ScriptedModel(text)):
        handle = await GENERATE_TEXT.kiq(GenerateTextArgs(prompt="Write.", stream=stream))

    pieces = [piece.text async for piece in handle.stream()]
    assert "".join(pieces) == (text if stream else "")
    assert (await handle.result()).text == text


# Requests that an API has recorded.


def requests_of(place: Place) -> MemoryRequests:
    return place.ledger.requests


async def process(record_id: str, job_id: str | None = None) -> Any:
    handle = await PROCESS_JOB.kiq(ProcessJobArgs(job_id=record_id), job_id=job_id)
    return await handle.result()


async def test_a_recorded_request_is_run_and_its_result_written_back(place: Place) -> None:
    record_id = await record_request("text", {"prompt": "Write."}, owner="ada")
    with using_model(ScriptedModel("Written.")):
        result = await process(record_id, job_id=record_id)

    record = await requests_of(place).get(record_id)
    assert record is not None
    assert (record.status, record.job_id, record.owner) == ("completed", record_id, "ada")
    assert record.result == result.result
    assert result.result["text"] == "Written."
    assert result.kind == "text"


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("kind", "request_", "answer", "field"),
    [
        ("image", {"prompt": "A sea."}, ImageAnswer((PNG,), "p"), "images"),
        ("audio", {"text": "Hello.", "format": "wav"}, SpeechAnswer(wav(1), "s"), "audio"),
    ],
)
async def test_each_kind_runs_its_task(
    kind: str, request_: dict[str, Any], answer: Any, field: str
) -> None:
    record_id = await record_request(kind, request_)
    with using_model(ScriptedModel(answer)):
        assert field in (await process(record_id)).result


@pytest.mark.usefixtures("place")
async def test_a_record_that_is_completed_is_not_run_again() -> None:
    record_id = await record_request("text", {"prompt": "Write."})
    with using_model(ScriptedModel("Once.")):
        first = await process(record_id)
        again = await process(record_id)

    assert first == again


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (RecordedRequest("r", "video", {}), "of kind 'video': expected one of text, image, audio"),
        (RecordedRequest("r", None, {}), "of kind 'None'"),
        (RecordedRequest("r", "text", "Write."), "not an object with arguments"),
        (RecordedRequest("r", "text", {"promt": "x"}), "promt: Extra inputs"),
    ],
)
async def test_a_record_that_cannot_be_run_fails_at_once_and_says_so_itself(
    place: Place, record: RecordedRequest, problem: str
) -> None:
    requests_of(place).put(record)

    with pytest.raises(JobFailed, match=problem):
        await process("r")

    written = await requests_of(place).get("r")
    assert written is not None
    assert written.status == RecordStatus.FAILED
    assert problem in (written.error or "")


@pytest.mark.usefixtures("place")
async def test_an_id_that_nobody_has_recorded_fails_at_once() -> None:
    with pytest.raises(JobFailed, match="nothing is recorded as 'r'"):
        await process("r")


async def test_a_record_of_another_job_that_still_runs_is_left_alone(place: Place) -> None:
    other = await inserted(place.ledger)
    running = RecordedRequest("r", "text", {"prompt": "x"}, status="processing", job_id=other.id)
    requests_of(place).put(running)

    with pytest.raises(JobFailed, match=f"is processing in job {other.id}"):
        await process("r")

    assert await requests_of(place).get("r") == running


async def test_a_record_whose_job_was_cancelled_while_it_waited_can_be_asked_for_again(
    place: Place,
) -> None:
    other = await inserted(place.ledger)
    waiting = RecordedRequest("r", "text", {"prompt": "x"}, status="processing", job_id=other.id)
    requests_of(place).put(waiting)
    await place.ledger.change(cancel_waiting(other.id, retention_s=60))
    with using_model(ScriptedModel("Now.")):
        await process("r")

    record = await requests_of(place).get("r")
    assert record is not None
    assert record.status == RecordStatus.COMPLETED


async def test_a_record_whose_job_has_failed_can_be_asked_for_again(place: Place) -> None:
    record_id = await record_request("text", {"prompt": "Write."})
    with pytest.raises(JobFailed, match="LLM_SERVER_URL"):
        await process(record_id)
    failed = await requests_of(place).get(record_id)
    with using_model(ScriptedModel("Now.")):
        await process(record_id, job_id=new_job_id())

    record = await requests_of(place).get(record_id)
    assert failed is not None
    assert record is not None
    assert (failed.status, record.status, record.error) == ("failed", "completed", None)


async def test_a_record_whose_job_is_cancelled_says_so(place: Place) -> None:
    """Cancelled while the model works."""
    record_id = await record_request("text", {"prompt": "Write."})
    job_id = new_job_id()

    class Cancelling(ScriptedModel):
        async def chat(self, request: Any, *, on_text: Any = None) -> Any:
            await broker.handle(job_id).cancel()
            await asyncio.sleep(60)  # the cancel ends it

    with using_model(Cancelling()):
        handle = await PROCESS_JOB.kiq(ProcessJobArgs(job_id=record_id), job_id=job_id)

    record = await requests_of(place).get(record_id)
    assert await handle.status() is Status.CANCELLED
    assert record is not None
    assert record.status == RecordStatus.CANCELLED


async def test_a_record_whose_job_was_stopped_for_another_reason_is_still_under_way(
    place: Place,
) -> None:
    """Its worker ends, or it is at its limit: it runs again, and its record does not say that it
    was cancelled."""
    record_id = await record_request("text", {"prompt": "Write."})

    class Draining(ScriptedModel):
        async def chat(self, request: Any, *, on_text: Any = None) -> Any:
            asyncio.get_running_loop().create_task(place.close())
            await asyncio.sleep(60)  # the end of its worker ends it

    with using_model(Draining()):
        await PROCESS_JOB.kiq(ProcessJobArgs(job_id=record_id), job_id=record_id)

    record = await requests_of(place).get(record_id)
    assert record is not None
    assert (record.status, record.job_id) == ("processing", record_id)
