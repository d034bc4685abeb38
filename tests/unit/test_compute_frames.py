from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.worker.job_process.errors import ProtocolBroken
from api_shared.worker.job_process.framing import HEADER, FrameParser, Kind, frame, read_frame

LIMIT = 100
frames_of_two_kinds = st.lists(
    st.tuples(st.sampled_from([Kind.PROGRESS, Kind.RETURNED]), st.binary(max_size=LIMIT))
)


def parser() -> FrameParser:
    return FrameParser({Kind.PROGRESS: LIMIT, Kind.RETURNED: LIMIT})


@given(frames_of_two_kinds, st.integers(min_value=1, max_value=50))
def test_frames_survive_any_cutting(frames: list[tuple[Kind, bytes]], chunk: int) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in frames)
    reader = parser()
    found = [
        one
        for start in range(0, len(stream), chunk)
        for one in reader.feed(stream[start : start + chunk])
    ]
    assert found == frames


def test_a_frame_over_its_limit_is_refused_before_its_payload_comes() -> None:
    with pytest.raises(ProtocolBroken, match="limit 100"):
        list(parser().feed(HEADER.pack(Kind.PROGRESS, LIMIT + 1)))


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_a_kind_that_has_no_place_is_refused(head: bytes) -> None:
    if head[0] not in (Kind.PROGRESS, Kind.RETURNED):
        with pytest.raises(ProtocolBroken, match="not expected"):
            list(parser().feed(head))


def test_a_blocking_read_sees_frames_then_the_end() -> None:
    ours, theirs = socket.socketpair()
    large = bytes(1_000_000)
    with ours, theirs:
        sender = threading.Thread(target=ours.sendall, args=(frame(Kind.ARGUMENTS, large),))
        sender.start()
        assert read_frame(theirs) == (Kind.ARGUMENTS, bytearray(large), [])
        sender.join()
        ours.close()
        assert read_frame(theirs) is None


def test_a_stream_that_ends_in_a_frame_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(frame(Kind.ORDER, b"abc")[:-1])
        with pytest.raises(EOFError):
            read_frame(theirs)
