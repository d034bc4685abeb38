"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers_general.llm.backends.sse import EventReader, EventTooLarge

LINES = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1, max_size=30)


@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"]), st.data())
def test_the_events_are_the_same_wherever_the_bytes_are_cut(
    texts: list[str], end: str, data: st.DataObject
) -> None:
    raw = "".join(f": ping{end}{end}event: x{end}data: {text}{end}{end}" for text in texts)
    encoded = raw.encode()
    reader, found, at = EventReader(max_event_bytes=10_000), [], 0
    while at < len(encoded):
        size = data.draw(st.integers(1, len(encoded) - at))
        found += reader.feed(encoded[at : at + size])
        at += size
    assert found == texts


def test_data_of_several_lines_is_one_event() -> None:
    assert EventReader(max_event_bytes=100).feed(b"data: a\ndata:b\n\n") == ["a\nb"]


def test_an_event_without_its_blank_line_is_not_whole() -> None:
    assert EventReader(max_event_bytes=100).feed(b"data: a\n") == []


@pytest.mark.parametrize("raw", [b"data: " + b"x" * 200, b"data: xxxxxxxxxx\n" * 20])
def test_an_event_that_does_not_end_is_given_up(raw: bytes) -> None:
    with pytest.raises(EventTooLarge):
        EventReader(max_event_bytes=100).feed(raw)
