"""
The wire format of this package: a kind, a length, a payload.

Two sockets use it: worker ↔ fork server (control), worker ↔ the process of a job (its channel).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

from api_shared.worker.job_process.errors import ProtocolBroken

HEADER = struct.Struct("!BI")

PROGRESS_LIMIT_BYTES = 64 * 1024
REPORT_LIMIT_BYTES = 512 * 1024
CONTROL_LIMIT_BYTES = 1024 * 1024


class Kind(IntEnum):
    # worker → fork server
    HELLO = 1
    FORK = 2  # carries two descriptors: the job's channel and its lifeline
    STOP = 3
    KILL = 4
    # fork server → worker
    READY = 10
    FAILED = 11
    STARTED = 12
    ENDED = 13
    # worker → job
    ORDER = 20
    ARGUMENTS = 21
    # job → worker
    PROGRESS = 30
    RETURNED = 31
    RAISED = 32
    SOFT_LIMIT = 33
    OUT_OF_MEMORY = 34


def header(kind: Kind, size: int) -> bytes:
    return HEADER.pack(kind, size)


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


class FrameParser:
    """Cuts a stream into frames; refuses a kind that `limits` does not name or a longer payload."""

    def __init__(self, limits: Mapping[Kind, int]) -> None:
        self._limits = {int(kind): limit for kind, limit in limits.items()}
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """
        Yield whole frames. Raises ProtocolBroken for a wrong header before its payload has come.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, size = HEADER.unpack_from(self._buffer)
            if kind not in self._limits:
                raise ProtocolBroken(f"a frame of kind {kind} is not expected here")
            if size > self._limits[kind]:
                raise ProtocolBroken(
                    f"a {Kind(kind).name} frame of {size:,} bytes, limit {self._limits[kind]:,}"
                )
            end = HEADER.size + size
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                payload = bytes(view[HEADER.size : end])
            del self._buffer[:end]
            yield Kind(kind), payload


def read_frame(
    sock: socket.socket, *, descriptors: int = 0
) -> tuple[Kind, bytearray, list[int]] | None:
    """The next frame of a blocking socket and the descriptors that came along; None at its end."""
    head, fds, _, _ = socket.recv_fds(sock, HEADER.size, descriptors)
    if not head:
        return None
    kind, size = HEADER.unpack(head + _read_exactly(sock, HEADER.size - len(head)))
    return Kind(kind), _read_exactly(sock, size), fds


def _read_exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    with memoryview(data) as view:
        done = 0
        while done < size:
            count = sock.recv_into(view[done:])
            if count == 0:
                raise EOFError("the other side closed in the middle of a frame")
            done += count
    return data
