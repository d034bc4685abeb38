"""What anybody sends is bounded, at the boundary, whichever door it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from taskiq import TaskiqDepends

from api_shared.client.job_broker import JobBroker
from api_shared.errors import (
    InvalidJobId,
    InvalidOption,
    JobFailed,
    TooLarge,
    UnknownQueue,
    UsageError,
)
from api_shared.json_text import MAX_DEPTH, is_too_deep
from api_shared.ledger.usage import MAX_AMOUNT
from api_shared.testing import running_in_place
from api_shared.transport.message import Unreadable, decode
from api_shared.worker.context import JobContext
from api_shared.worker.run.job_context import MAX_KEY, progress_of


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture
def broker() -> JobBroker:
    return JobBroker("general")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_counted_at_the_boundary(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]

    def text(depth: int) -> str:
        return opening * depth + "1" + closing * depth

    assert not is_too_deep(text(MAX_DEPTH - 1))
    assert is_too_deep(text(MAX_DEPTH))
    assert is_too_deep(text(100_000)), "deeper than the parser itself can go"


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1])
async def test_a_result_may_be_as_deep_as_arguments(broker: JobBroker, depth: int) -> None:
    @broker.task(task_name="deep")
    async def deep() -> Any:
        return nested(depth)

    async with running_in_place(broker):
        assert await (await deep.kiq()).result() == nested(depth)


@pytest.mark.parametrize("depth", [MAX_DEPTH, 500])
async def test_a_result_that_is_deeper_fails_its_job(broker: JobBroker, depth: int) -> None:
    @broker.task(task_name="too_deep")
    async def too_deep() -> Any:
        return nested(depth)

    async with running_in_place(broker):
        with pytest.raises(
            JobFailed, match=r"invalid_result.*(nested deeper than 64|depth exceeded)"
        ):
            await (await too_deep.kiq()).result()


Bad = Callable[[JobContext], Any]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda job: job.record("k", nested(MAX_DEPTH)), "nested deeper"),
        (lambda job: job.record("k", nested(5000)), "nested deeper|must be JSON"),
        (lambda job: job.record("k" * (MAX_KEY + 1), 1), "1 to 200 characters"),
        (lambda job: job.record("", 1), "1 to 200 characters"),
        (lambda job: job.record("k", float("nan")), "not JSON"),
        (lambda job: job.record("k", 1, usage={"k": MAX_AMOUNT + 1}), "whole number"),
        (lambda job: job.record("k", "x" * 1_048_576), "over the limit"),
        (lambda job: job.write("x" * 1_048_577), "over the limit"),
        (lambda job: job.write(7), "must be text"),
    ],
)
async def test_what_a_body_records_and_writes_is_bounded(
    broker: JobBroker, bad: Bad, words: str
) -> None:
    raised: list[Exception] = []

    @broker.task(task_name="records")
    async def records(job: JobContext = TaskiqDepends()) -> None:
        await job.record("k" * MAX_KEY, nested(MAX_DEPTH - 1), usage={"k": MAX_AMOUNT})
        await job.write("x" * 1_048_576)
        try:
            await bad(job)
        except (InvalidOption, TooLarge) as error:
            raised.append(error)

    async with running_in_place(broker) as place:
        handle = await records.kiq()
        await handle.result()
        kept = await place.ledger.get(handle.task_id)
    (error,) = raised
    assert any(word in str(error) for word in words.split("|"))
    assert kept is not None
    assert set(kept.journal) == {"k" * MAX_KEY}


def test_progress_is_cut_to_what_every_store_can_hold() -> None:
    told = progress_of(1, 2, "s" * 10_000, "m" * 10_000)
    assert (len(told.stage), len(told.message)) == (200, 500)


@pytest.mark.parametrize("option", ["owner", "correlation_id"])
async def test_names_of_200_characters_are_taken_and_longer_ones_refused(
    broker: JobBroker, option: str
) -> None:
    @broker.task(task_name="named")
    async def named() -> None: ...

    async with running_in_place(broker):
        await named.kicker().with_labels(**{option: "n" * 200}).kiq()
        for value in ("n" * 201, ""):
            with pytest.raises(Exception, match="200 characters"):
                await named.kicker().with_labels(**{option: value}).kiq()


@pytest.mark.parametrize(
    "error",
    [
        InvalidOption("owner", "n" * 1_000_000, "short"),
        InvalidJobId("n" * 1_000_000),
        UnknownQueue("n" * 1_000_000, ["taskiq"]),
    ],
)
def test_a_refusal_does_not_repeat_what_was_too_long(error: UsageError) -> None:
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("changed", "readable"),
    [
        ({"task_name": "t" * 200}, True),
        ({"task_name": "t" * 201}, False),
        ({"labels": {"n" * 512: "v" * 512}}, True),
        ({"labels": {"n" * 512: "v" * 513}}, False),
        ({"labels": {str(n): "v" for n in range(64)}}, True),
        ({"labels": {str(n): "v" for n in range(65)}}, False),
        ({"kwargs": {"a": nested(MAX_DEPTH - 2)}}, True),
        ({"kwargs": {"a": nested(MAX_DEPTH - 1)}}, False),
    ],
)
def test_a_message_is_bounded_as_a_kiq_is(changed: dict[str, Any], readable: bool) -> None:
    message = {"task_id": "0123456789abcdef01234567", "task_name": "t", "kwargs": {}, **changed}
    body = json.dumps(message).encode()
    if readable:
        assert decode(body, max_bytes=len(body)).task
    else:
        with pytest.raises(Unreadable):
            decode(body, max_bytes=len(body))
    with pytest.raises(Unreadable, match="over"):
        decode(body, max_bytes=len(body) - 1)
