"""Messages: what is written is read back, and whatever else comes is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.client.bind.contract_from_signature import contract_from_signature
from api_shared.client.contract import Contract
from api_shared.errors import InvalidArguments
from api_shared.job import Reason
from api_shared.json_text import MAX_DEPTH
from api_shared.transport.message import MAX_LABEL_LENGTH, MAX_LABELS, Unreadable, decode, encode
from fixtures.ledgers import a_job

ID = "692a6f1d9c41b2a7c3d5e8f0"
LIMIT = 100_000


def message(**fields: Any) -> bytes:
    whole = {"task_id": ID, "task_name": "t", "labels": {}, "args": [], "kwargs": {}}
    return json.dumps({**whole, **fields}).encode()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
kwargs = st.dictionaries(
    st.text(st.characters(codec=None), max_size=20),
    st.integers() | st.text(st.characters(codec=None)) | st.lists(st.integers()),
    max_size=5,
)
"""With lone surrogates, which JSON can say and UTF-8 cannot."""


def decodes_or_is_refused(body: bytes) -> None:
    try:
        decode(body, max_bytes=LIMIT)
    except Unreadable as error:
        assert error.reason in (Reason.UNREADABLE, Reason.INVALID_JOB_ID, Reason.TOO_LARGE)
        assert len(str(error)) < 500


@given(st.binary())
def test_no_bytes_are_more_than_unreadable(body: bytes) -> None:
    decodes_or_is_refused(body)


@given(json_values)
def test_no_json_is_more_than_unreadable(value: Any) -> None:
    decodes_or_is_refused(json.dumps(value).encode())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "task_id": json_values | st.just(ID),
            "task_name": json_values | st.just("t"),
            "labels": json_values,
            "args": json_values,
            "kwargs": json_values,
        },
    )
)
def test_no_message_of_our_shape_is_more_than_unreadable(fields: dict[str, Any]) -> None:
    decodes_or_is_refused(json.dumps(fields).encode())
    decodes_or_is_refused(message(**fields))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b"[" * 50_000,
        b'{"a":' * 5_000,
        b"\xff\xfe{}",
        b"\x80\x04\x95",
        b"1" * 10_000,
        b"null",
        b'"text"',
        b"",
    ],
    ids=["too big", "deep", "deep objects", "utf-16", "pickle", "digits", "null", "text", "empty"],
)
def test_hostile_bytes_are_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(body, max_bytes=LIMIT)


@given(kwargs, st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5), st.text())
def test_what_is_encoded_is_decoded(
    arguments: dict[str, Any], labels: dict[str, str], task: str
) -> None:
    labels = {name: text for name, text in labels.items() if name not in ("ack_type", "timeout")}
    task = (task or "t")[:200]
    job = a_job(args_json=json.dumps(arguments), labels=labels, task=task)
    read = decode(encode(job), max_bytes=10_000_000)
    assert (read.job_id, read.task, read.args) == (job.id, task, [])
    assert read.kwargs == arguments
    assert read.labels == labels


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**4000, 10**4000])
def test_huge_whole_numbers_keep_every_digit(number: int) -> None:
    job = a_job(args_json=json.dumps({"n": number}))
    assert decode(encode(job), max_bytes=LIMIT).kwargs == {"n": number}


def test_arguments_travel_as_the_text_that_they_are_in_the_record() -> None:
    text = '{"a":1.10,"b":1e2}'
    assert encode(a_job(args_json=text)).endswith(b'"kwargs":{"a":1.10,"b":1e2}}')


def test_a_message_of_just_the_allowed_size_is_read() -> None:
    body = message()
    assert decode(body, max_bytes=len(body)).task == "t"
    with pytest.raises(Unreadable) as raised:
        decode(body, max_bytes=len(body) - 1)
    assert raised.value.reason is Reason.TOO_LARGE


def test_nesting_is_limited() -> None:
    deepest = MAX_DEPTH - 2  # the message and its kwargs are levels too
    assert decode(message(kwargs={"a": nested(deepest)}), max_bytes=LIMIT)
    with pytest.raises(Unreadable, match="nested deeper"):
        decode(message(kwargs={"a": nested(deepest + 1)}), max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task_name": None}, "task_name"),
        ({"task_name": ""}, "task_name"),
        ({"task_name": "x" * 201}, "task_name"),
        ({"args": {}}, "args"),
        ({"kwargs": []}, "kwargs"),
        ({"labels": [1]}, "labels"),
        ({"labels": {str(n): "" for n in range(MAX_LABELS + 1)}}, "labels"),
        ({"labels": {"a": "x" * MAX_LABEL_LENGTH}}, "labels"),
    ],
)
def test_each_wrong_field_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Unreadable, match=words) as raised:
        decode(message(**fields), max_bytes=LIMIT)
    assert raised.value.reason is Reason.UNREADABLE


@pytest.mark.parametrize("task_id", [None, "", "x", 5, [], {"$oid": ID}, "g" * 24, ID + "0"])
def test_an_id_that_is_no_object_id_has_a_reason_of_its_own(task_id: Any) -> None:
    with pytest.raises(Unreadable, match="24 hexadecimal digits") as raised:
        decode(message(task_id=task_id), max_bytes=LIMIT)
    assert raised.value.reason is Reason.INVALID_JOB_ID


def test_an_id_in_capitals_is_the_same_job() -> None:
    assert decode(message(task_id=ID.upper()), max_bytes=LIMIT).job_id == ID


def test_labels_become_text_and_those_that_steer_the_receiver_are_dropped() -> None:
    body = message(labels={"tenant": 7, "ack_type": "when_executed", "timeout": 1})
    assert decode(body, max_bytes=LIMIT).labels == {"tenant": "7"}


def test_a_message_without_labels_and_arguments_is_a_job() -> None:
    body = json.dumps({"task_id": ID, "task_name": "t", "labels": None}).encode()
    read = decode(body, max_bytes=LIMIT)
    assert (read.args, read.kwargs, read.labels) == ([], {}, {})


@given(json_values)
def test_arguments_that_anybody_may_send_parse_or_are_refused(value: Any) -> None:
    def function(number: int, text: str = "") -> None: ...

    for contract in (
        contract_from_signature(function, "f"),
        Contract("g", contract_from_signature(function, "g").args, str),
    ):
        for args, names in (([value], {}), ([], {"number": value}), ([value, value], {"x": 1})):
            try:
                contract.parse(args, names)
            except InvalidArguments:
                continue
