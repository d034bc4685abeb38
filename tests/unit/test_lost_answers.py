"""The tap that loses the answers to MongoDB's writes: which it loses, and what it leaves alone."""

from __future__ import annotations

import struct
from itertools import pairwise
from random import Random
from typing import Any

import bson
from hypothesis import given
from hypothesis import strategies as st

from api_shared.testing.chaos.lost_answers import HEADER, OP_MSG, LostAnswers, Swallowed, command_of

WRITES = ("update", "insert", "findAndModify", "delete")
OTHERS = ("find", "hello", "ping", "aggregate", "getMore")


def message(number: int, answer_to: int, body: dict[str, Any]) -> bytes:
    section = struct.pack("<IB", 0, 0) + bson.encode(body)
    return HEADER.pack(HEADER.size + len(section), number, answer_to, OP_MSG) + section


def asked(number: int, command: str) -> bytes:
    return message(number, 0, {command: "jobs", "$db": "test"})


def answered(number: int) -> bytes:
    return message(1000 + number, number, {"ok": 1.0})


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({place % (len(data) + 1) for place in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def test_the_command_is_the_first_key_of_the_body() -> None:
    assert command_of(asked(1, "findAndModify")) == b"findAndModify"


@given(st.sampled_from(WRITES), st.lists(st.integers(0, 500)))
def test_a_write_arrives_whole_and_its_answer_is_lost(command: str, cuts: list[int]) -> None:
    swallowed = Swallowed()
    tap = LostAnswers(1.0, Random(1), swallowed)
    request = asked(7, command)
    assert b"".join(tap.from_client(part) for part in cut(request, cuts)) == request
    answers = [tap.from_server(part) for part in cut(answered(7), cuts)]
    assert None in answers
    assert swallowed.count == 1


@given(st.lists(st.sampled_from(OTHERS), min_size=1, max_size=5), st.lists(st.integers(0, 900)))
def test_what_is_no_write_passes_however_it_is_cut(commands: list[str], cuts: list[int]) -> None:
    tap = LostAnswers(1.0, Random(1), Swallowed())
    requests = b"".join(asked(number, command) for number, command in enumerate(commands))
    answers = b"".join(answered(number) for number in range(len(commands)))
    assert b"".join(tap.from_client(part) for part in cut(requests, cuts)) == requests
    assert b"".join(tap.from_server(part) or b"" for part in cut(answers, cuts)) == answers


def test_a_share_of_nothing_loses_nothing() -> None:
    tap = LostAnswers(0.0, Random(1), Swallowed())
    tap.from_client(asked(1, "update"))
    assert tap.from_server(answered(1)) == answered(1)
