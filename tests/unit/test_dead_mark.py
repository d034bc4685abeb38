"""The headers of dead letters: written by us, read from anybody."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import encode

from api_shared.transport.dead_letter_headers import (
    DEAD_REASON,
    DEAD_ROUND,
    DeadLetterHeaders,
    dead_letter_headers_of,
)

texts = st.text(min_size=1, max_size=200)
sendable = texts.filter(lambda text: text.encode("utf-8", "ignore").decode() == text)
hostile_headers = st.dictionaries(
    st.sampled_from(list(DeadLetterHeaders("r", "d", "q", 1, "o", "c").headers)),
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=300)
    | st.binary(max_size=50)
    | st.lists(st.integers()),
)


@given(
    st.builds(
        DeadLetterHeaders,
        sendable,
        st.text(st.characters(codec="utf-8"), max_size=1000),
        sendable,
        st.none() | st.integers(1, 10**6),
        st.none() | sendable,
        st.none() | sendable,
    )
)
def test_headers_are_read_back_as_they_were(headers: DeadLetterHeaders) -> None:
    assert dead_letter_headers_of(headers.headers) == headers


@given(hostile_headers)
def test_no_header_can_hurt_whoever_reads_it(hostile: dict[str, Any]) -> None:
    read = dead_letter_headers_of(hostile)
    if read is not None:
        assert read.ended_round >= 1
        assert all(len(text or "") <= 1000 for text in (read.reason, read.detail, read.owner))


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_can_be_sent(detail: str, owner: str) -> None:
    encode.field_table(DeadLetterHeaders("error", detail, "taskiq", 1, owner, None).headers)


def test_a_message_that_is_no_dead_letter_has_no_such_headers() -> None:
    assert dead_letter_headers_of({}) is None
    assert dead_letter_headers_of({"x-accepted": 1, DEAD_ROUND: 3}) is None
    assert dead_letter_headers_of({DEAD_REASON: ""}) is None


def test_a_round_that_is_none_is_passed_over() -> None:
    for round_ in (True, 0, -1, "2", 2.5, 2**40, None):
        headers = dead_letter_headers_of({DEAD_REASON: "error", DEAD_ROUND: round_})
        assert headers is not None
        assert headers.ended_round == 1, round_
