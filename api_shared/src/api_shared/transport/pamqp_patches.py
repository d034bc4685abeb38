"""
Patches of the driver's codec, pamqp, for messages of other programs.

Properties that pamqp cannot decode (a timestamp of the year 58875, a name that is not UTF-8, tables
nested 500 deep) end the connection. Their message comes first again on the next connection, for
ever. With the patches the message is delivered whole, with `UnreadableProperties`. A routing key
that is not UTF-8 is outside of the properties: it is decoded with replacement characters.

The headers of a dead letter are encoded again. With the patches a double stays a double (pamqp
writes single precision, and overflows), and a string that is not UTF-8 keeps its bytes (pamqp
refuses it).
"""

from __future__ import annotations

from pamqp import decode, encode
from pamqp.commands import Basic
from pamqp.common import FieldArray, FieldTable, FieldValue, Struct
from pamqp.header import ContentHeader

_unmarshal = ContentHeader.unmarshal
_short_str = decode.short_str
_encode_table_value = encode.encode_table_value


class UnreadableProperties(Basic.Properties):
    """Properties that could not all be decoded. `why` is the error of the first that could not."""

    def __init__(self, why: str, readable: Basic.Properties) -> None:
        self.why = why
        super().__init__(headers=readable.headers, priority=readable.priority)


def patch_pamqp() -> None:
    """Patch pamqp for the whole process. Repeated calls have no effect."""
    ContentHeader.unmarshal = _unmarshal_or_keep_error  # type: ignore[method-assign, assignment]
    decode.METHODS["shortstr"] = _short_str_or_like_it
    encode.encode_table_value = _encode_as_it_was


def _unmarshal_or_keep_error(header: ContentHeader, data: bytes) -> None:
    try:
        _unmarshal(header, data)
    except Exception as error:
        if header.class_id is None:  # the size of the body was not decoded either
            raise
        why = f"{type(error).__name__}: {error}"
        header.properties = UnreadableProperties(why, header.properties)


def _short_str_or_like_it(value: bytes) -> tuple[int, str]:
    try:
        return _short_str(value)
    except UnicodeDecodeError:
        end = 1 + value[0]
        return end, value[1:end].decode("utf-8", "replace")


def _encode_as_it_was(value: FieldArray | FieldTable | FieldValue) -> bytes:
    if isinstance(value, float):
        return b"d" + Struct.double.pack(value)
    if isinstance(value, bytes):
        return b"S" + Struct.integer.pack(len(value)) + value
    return _encode_table_value(value)
