"""
A tap of the proxy that loses the answers to MongoDB writes.

Protocol: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ (OP_MSG).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

HEADER = struct.Struct("<iiii")
OP_MSG = 2013
COMMAND_AT = HEADER.size + 4 + 1 + 4 + 1
"""The place of the first key of the body: after the header, the flags, the kind of the section, the
length of the document and the type of the key."""
WRITES = frozenset({b"update", b"insert", b"delete", b"findAndModify"})


@dataclass(slots=True)
class Swallowed:
    """The count of lost answers."""

    count: int = 0


class LostAnswers:
    """Loses the answers to a `share` of one connection's writes, and the connection with them."""

    def __init__(self, share: float, rng: Random, swallowed: Swallowed) -> None:
        self._share = share
        self._rng = rng
        self._swallowed = swallowed
        self._asked = bytearray()
        self._answered = bytearray()
        self._doomed: set[int] = set()

    def from_client(self, data: bytes) -> bytes:
        self._asked += data
        while message := _next_message(self._asked):
            _, request_id, _, code = HEADER.unpack_from(message)
            if (
                code == OP_MSG
                and command_of(message) in WRITES
                and self._rng.random() < self._share
            ):
                self._doomed.add(request_id)
        return data

    def from_server(self, data: bytes) -> bytes | None:
        self._answered += data
        while message := _next_message(self._answered):
            _, _, response_to, _ = HEADER.unpack_from(message)
            if response_to in self._doomed:
                self._swallowed.count += 1
                return None
        return data


def command_of(message: bytes) -> bytes:
    """The name of an OP_MSG's command: its body's first key."""
    return message[COMMAND_AT : message.index(0, COMMAND_AT)]


def _next_message(buffer: bytearray) -> bytes | None:
    """The first whole message, taken from the buffer."""
    if len(buffer) < HEADER.size:
        return None
    (length,) = struct.unpack_from("<i", buffer)
    if len(buffer) < length:
        return None
    message = bytes(buffer[:length])
    del buffer[:length]
    return message
