"""
A full AMQP 0-9-1 handshake over a plain socket, which asks RabbitMQ whether it is ready.

It is written out because synchronous code uses it in threads, dozens of times for each start: an
event loop each time would be slower than these few frames.
Source: the AMQP 0-9-1 specification, sections 2.2.4, 2.3.5 and 1.4 (class `connection`).
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import ExitStack
from urllib.parse import unquote, urlsplit

from api_shared.testing.servers.errors import ServicesError

_CONNECTION = 10
_START, _START_OK, _TUNE, _TUNE_OK, _OPEN, _OPEN_OK, _CLOSE, _CLOSE_OK = (
    10, 11, 30, 31, 40, 41, 50, 51,
)  # fmt: skip
_METHOD_FRAME = 1
_FRAME_END = 0xCE
_TIMEOUT_S = 3.0


def ask_rabbitmq(url: str) -> None:
    """
    Log in, open the virtual host, close. Raises OSError or ServicesError unless all of it works.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "amqps"
    host, port = parts.hostname or "localhost", parts.port or (5671 if secure else 5672)
    user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
    vhost = unquote(parts.path.removeprefix("/")) or "/"
    with ExitStack() as held:
        stream = held.enter_context(socket.create_connection((host, port), timeout=_TIMEOUT_S))
        if secure:
            # Reachability is asked here, not identity: who uses the server checks its certificate.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stream = held.enter_context(context.wrap_socket(stream))
        stream.sendall(b"AMQP\x00\x00\x09\x01")
        _expect(stream, _START)
        login = f"\x00{user}\x00{password}".encode()
        _send(
            stream,
            _START_OK,
            _long(_PROPERTIES) + _short("PLAIN") + _long(login) + _short("en_US"),
        )
        limits = _expect(stream, _TUNE)
        _send(stream, _TUNE_OK, limits[:8])
        _send(stream, _OPEN, _short(vhost) + _short("") + b"\x00")
        _expect(stream, _OPEN_OK)
        _send(stream, _CLOSE, struct.pack(">H", 200) + _short("") + struct.pack(">HH", 0, 0))
        _expect(stream, _CLOSE_OK)


def _send(stream: socket.socket, method: int, arguments: bytes) -> None:
    payload = struct.pack(">HH", _CONNECTION, method) + arguments
    stream.sendall(
        struct.pack(">BHI", _METHOD_FRAME, 0, len(payload)) + payload + bytes([_FRAME_END])
    )


def _expect(stream: socket.socket, method: int) -> bytes:
    """The arguments of the next method, which must be `method`."""
    kind, _channel, size = struct.unpack(">BHI", _receive(stream, 7))
    if kind != _METHOD_FRAME or size > 1_000_000:
        raise ServicesError("it does not speak AMQP 0-9-1")
    payload = _receive(stream, size + 1)[:-1]
    class_id, method_id = struct.unpack(">HH", payload[:4])
    if (class_id, method_id) == (_CONNECTION, _CLOSE):
        code, length = struct.unpack(">HB", payload[4:7])
        reason = payload[7 : 7 + length].decode(errors="replace")
        raise ServicesError(f"it refused the connection: {code} {reason}")
    if (class_id, method_id) != (_CONNECTION, method):
        raise ServicesError(f"it sent method {class_id}.{method_id} instead of 10.{method}")
    return payload[4:]


def _receive(stream: socket.socket, size_bytes: int) -> bytes:
    received = b""
    while len(received) < size_bytes:
        part = stream.recv(size_bytes - len(received))
        if not part:
            raise ConnectionError("it closed the connection during the AMQP handshake")
        received += part
    return received


def _short(text: str) -> bytes:
    return bytes([len(text.encode())]) + text.encode()


def _long(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


# Without it RabbitMQ answers a wrong password by closing the connection, without a word.
_PROPERTIES = (
    _short("capabilities") + b"F" + _long(_short("authentication_failure_close") + b"t\x01")
)
