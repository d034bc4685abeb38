"""Recorded requests: the collection in MongoDB, and the one in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from api_shared.errors import InvalidOption
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.ledger.requests import RecordedRequest, RecordedRequests, RecordExists, RecordStatus
from fixtures.doubles import START
from fixtures.ledgers import drop_database, ledger_settings

REQUEST: dict[str, Any] = {"prompt": "Say $hello to a.b", "parameters": {"seed": 1}, "$x": [None]}

JOB_ID = "692a6f1d9c41b2a7c3d5e8f0"


@dataclass(frozen=True, slots=True)
class Collection:
    """`write` puts a document into it as another program does."""

    requests: RecordedRequests
    write: Callable[[Mapping[str, Any]], object]


@pytest.fixture(params=["memory", "mongodb"])
async def collection(request: pytest.FixtureRequest) -> AsyncIterator[Collection]:
    if request.param == "memory":
        memory = MemoryLedger().requests

        def put(document: Mapping[str, Any]) -> None:
            fields = {name: value for name, value in document.items() if name != "_id"}
            if isinstance(job_id := fields.pop("job_id", None), ObjectId | str):
                fields["job_id"] = str(job_id) or None
            memory.put(
                RecordedRequest(
                    str(document["_id"]),
                    fields.pop("kind", None),
                    fields.pop("request", None),
                    **fields,
                )
            )

        yield Collection(memory, put)
        return
    settings = ledger_settings(request.getfixturevalue("services").mongodb.url)
    ledger = MongoLedger(settings)
    await ledger.start()
    url = settings.mongodb_url.get_secret_value()
    with MongoClient[dict[str, Any]](url) as client:
        documents = client[settings.database_name]["requests"]
        yield Collection(ledger.requests, lambda document: documents.insert_one(dict(document)))
    await ledger.close()
    await drop_database(settings)


@pytest.mark.parametrize("record_id", [JOB_ID, "order-7", "$where"])
async def test_what_was_recorded_is_read_as_it_was(collection: Collection, record_id: str) -> None:
    await collection.requests.add(record_id, "text", REQUEST, "ada")

    record = await collection.requests.get(record_id)

    assert record == RecordedRequest(record_id, "text", REQUEST, "ada")
    assert await collection.requests.get("another") is None


async def test_the_same_request_recorded_twice_is_one_and_another_is_refused(
    collection: Collection,
) -> None:
    for _ in range(2):
        await collection.requests.add("order-7", "text", REQUEST, None)

    with pytest.raises(RecordExists, match="order-7"):
        await collection.requests.add("order-7", "image", REQUEST, None)
    with pytest.raises(RecordExists):
        await collection.requests.add("order-7", "text", REQUEST, "ada")


async def test_what_json_says_otherwise_is_recorded_as_json_has_it(collection: Collection) -> None:
    said = {"sizes": (1, 2), "by_id": {7: 2**63 - 1}, "ratio": 0.5}
    for _ in range(2):
        await collection.requests.add("r", "text", said, None)

    record = await collection.requests.get("r")

    assert record is not None
    assert record.request == {"sizes": [1, 2], "by_id": {"7": 2**63 - 1}, "ratio": 0.5}


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**63, "\ud800", START, b"bytes", {1, 2}, REQUEST.keys()],
    ids=ascii,
)
async def test_what_is_no_json_is_refused_and_not_recorded(
    collection: Collection, value: object
) -> None:
    with pytest.raises(InvalidOption, match="must be a JSON object"):
        await collection.requests.add("r", "text", {"a": [value]}, None)

    assert await collection.requests.get("r") is None


@pytest.mark.parametrize("key", [ObjectId(JOB_ID), "order-7", JOB_ID])
async def test_a_record_of_another_program_is_found_by_its_id(
    collection: Collection, key: ObjectId | str
) -> None:
    collection.write({"_id": key, "kind": "text", "request": REQUEST, "owner": "ada"})

    record = await collection.requests.begin(str(key), "job-1")

    assert record is not None
    assert (record.id, record.owner, record.job_id) == (str(key), "ada", "job-1")
    assert record.status == RecordStatus.PROCESSING
    assert await collection.requests.begin("another", "job-1") is None


@pytest.mark.parametrize("job_id", [ObjectId(JOB_ID), JOB_ID, "", None, 7], ids=repr)
async def test_a_record_of_another_program_is_begun_by_the_job_that_it_names_or_by_any(
    collection: Collection, job_id: object
) -> None:
    collection.write({"_id": "r", "kind": "text", "request": REQUEST, "job_id": job_id})

    before = await collection.requests.get("r")
    begun = await collection.requests.begin("r", JOB_ID)

    assert before is not None
    assert before.job_id == (JOB_ID if str(job_id) == JOB_ID else None)
    assert begun is not None
    assert (begun.job_id, begun.status) == (JOB_ID, "processing")
    assert await collection.requests.end("r", JOB_ID, RecordStatus.COMPLETED, result={})


async def test_a_record_that_names_another_job_is_that_jobs_until_it_has_ended(
    collection: Collection,
) -> None:
    other = ObjectId()
    collection.write({"_id": "r", "kind": "text", "request": REQUEST, "job_id": other})

    refused = await collection.requests.begin("r", JOB_ID)
    taken = await collection.requests.begin("r", JOB_ID, after=str(other))

    assert refused is not None
    assert taken is not None
    assert (refused.job_id, taken.job_id) == (str(other), JOB_ID)


async def test_an_id_in_hex_names_one_record_in_capitals_too(collection: Collection) -> None:
    await collection.requests.add(JOB_ID.upper(), "text", REQUEST, None)

    for name in (JOB_ID, JOB_ID.upper()):
        record = await collection.requests.get(name)
        assert record is not None
        assert record.id == JOB_ID


async def test_the_error_of_an_end_that_is_no_failure_any_more_is_gone(
    collection: Collection,
) -> None:
    await collection.requests.add("r", "text", REQUEST, None)
    await collection.requests.begin("r", JOB_ID)
    await collection.requests.end("r", JOB_ID, RecordStatus.FAILED, error="it broke")
    await collection.requests.end("r", JOB_ID, RecordStatus.CANCELLED)

    record = await collection.requests.get("r")

    assert record is not None
    assert (record.status, record.error) == ("cancelled", None)


async def test_a_record_belongs_to_the_job_that_began_it(collection: Collection) -> None:
    await collection.requests.add("r", "text", REQUEST, None)
    await collection.requests.begin("r", "job-1")

    again = await collection.requests.begin("r", "job-1")
    other = await collection.requests.begin("r", "job-2")

    assert again is not None
    assert other is not None
    assert (again.job_id, other.job_id) == ("job-1", "job-1")
    assert not await collection.requests.end("r", "job-2", RecordStatus.COMPLETED, result={})


async def test_a_result_is_written_once_and_stays(collection: Collection) -> None:
    await collection.requests.add("r", "text", REQUEST, None)
    await collection.requests.begin("r", "job-1")
    result = {"text": "hello", "usage": {"prompt_tokens": 3}, "value": None}

    assert await collection.requests.end("r", "job-1", RecordStatus.COMPLETED, result=result)
    assert not await collection.requests.end("r", "job-1", RecordStatus.FAILED, error="late")
    record = await collection.requests.begin("r", "job-1")

    assert record is not None
    assert (record.status, record.result, record.error) == ("completed", result, None)


@pytest.mark.parametrize("status", [RecordStatus.FAILED, RecordStatus.CANCELLED])
async def test_what_failed_or_was_cancelled_may_be_taken_over(
    collection: Collection, status: RecordStatus
) -> None:
    await collection.requests.add("r", "text", REQUEST, None)
    await collection.requests.begin("r", "job-1")
    assert await collection.requests.end("r", "job-1", status, error="it broke")
    ended = await collection.requests.get("r")

    taken = await collection.requests.begin("r", "job-2")

    assert ended is not None
    assert taken is not None
    assert (ended.status, ended.error) == (status, "it broke")
    assert (taken.job_id, taken.status, taken.error) == ("job-2", "processing", None)


async def test_the_record_of_a_job_that_ended_without_a_word_may_be_taken_over_once(
    collection: Collection,
) -> None:
    await collection.requests.add("r", "text", REQUEST, None)
    await collection.requests.begin("r", "job-1")

    wrong = await collection.requests.begin("r", "job-2", after="job-0")
    taken = await collection.requests.begin("r", "job-2", after="job-1")
    late = await collection.requests.begin("r", "job-3", after="job-1")

    assert None not in (wrong, taken, late)
    assert [each.job_id for each in (wrong, taken, late) if each] == ["job-1", "job-2", "job-2"]
    await collection.requests.end("r", "job-2", RecordStatus.COMPLETED, result={})
    done = await collection.requests.begin("r", "job-3", after="job-2")
    assert done is not None
    assert (done.job_id, done.status) == ("job-2", "completed")


async def test_a_record_that_is_no_request_is_read_all_the_same(collection: Collection) -> None:
    collection.write({"_id": "r", "kind": 7, "request": "none"})

    record = await collection.requests.get("r")

    assert record == RecordedRequest("r", 7, "none")
