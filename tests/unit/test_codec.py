"""The mends of the driver's codec, on bytes."""

from __future__ import annotations

from typing import Any

import pamqp.frame
import pytest
from pamqp import decode, encode
from pamqp.commands import Basic
from pamqp.exceptions import UnmarshalingException
from pamqp.header import ContentHeader

from api_shared.transport.pamqp_patches import UnreadableProperties, patch_pamqp
from fixtures.raw_messages import HEADERS, TIMESTAMP, UNREADABLE, content_header, entry, table


@pytest.fixture(autouse=True)
def mended() -> None:
    patch_pamqp()


def read(raw: bytes) -> ContentHeader:
    _, channel, header = pamqp.frame.unmarshal(raw)
    assert isinstance(header, ContentHeader)
    assert channel == 3
    return header


@pytest.mark.parametrize("kind", UNREADABLE)
def test_properties_that_cannot_be_decoded_are_marked_and_the_size_of_the_body_is_known(
    kind: str,
) -> None:
    header = read(content_header(*UNREADABLE[kind], body_size=70_000, channel=3))
    assert isinstance(header.properties, UnreadableProperties)
    assert header.properties.why
    assert header.body_size == 70_000


def test_short_text_that_is_not_utf8_is_read_as_far_as_can_be() -> None:
    content_type = 1 << 15
    header = read(content_header(content_type, b"\x05caf\xe9!", body_size=1, channel=3))
    assert (type(header.properties), header.properties.content_type) == (
        Basic.Properties,
        "caf\ufffd!",
    )


def test_what_was_decoded_before_is_kept() -> None:
    properties = table(entry(b"x-accepted", b"t", b"\1")) + b"\xff" * 8
    header = read(content_header(HEADERS | TIMESTAMP, properties, body_size=1, channel=3))
    assert isinstance(header.properties, UnreadableProperties)
    assert header.properties.headers == {"x-accepted": True}


def test_a_frame_that_is_cut_short_is_the_connections_end_as_before() -> None:
    raw = content_header(0, b"", body_size=1, channel=3)
    cut = raw[:3] + (6).to_bytes(4) + raw[7:13] + raw[-1:]
    with pytest.raises(UnmarshalingException):
        pamqp.frame.unmarshal(cut)


def test_readable_properties_are_plain_ones() -> None:
    sent = Basic.Properties(content_type="application/json", headers={"a": 1}, priority=4)
    header = read(pamqp.frame.marshal(ContentHeader(body_size=2, properties=sent), 3))
    assert type(header.properties) is Basic.Properties
    assert header.properties == sent


@pytest.mark.parametrize(
    "headers",
    [
        {"one": 0.1},
        {"huge": 1e300, "not a number's": float("-inf")},
        {"latin-1": b"caf\xe9"},
        {"in a table": {"in a list": [0.1, b"\xff", "text", 1, None, True]}},
    ],
)
def test_headers_are_encoded_as_they_were(headers: dict[str, Any]) -> None:
    raw = encode.field_table(headers)
    assert decode.field_table(raw) == (len(raw), headers)
