"""Free loopback ports for servers that may be stopped and started again."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

LOOPBACK = "127.0.0.1"
_LOWEST = 10_240
_TRIES = 200


def free_ports(count: int) -> list[int]:
    """
    `count` different ports on which no program listens now.

    They lie below the range from which the kernel takes the ports of outgoing connections: while a
    server is down for a moment, no client of something else can take its port.
    """
    rng = SystemRandom()
    ceiling = _first_ephemeral_port()
    with ExitStack() as held:
        ports: list[int] = []
        for _ in range(_TRIES):
            if len(ports) == count:
                return ports
            candidate = rng.randrange(_LOWEST, ceiling) if ceiling > _LOWEST + 1000 else 0
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                continue
            ports.append(probe.getsockname()[1])
    raise OSError(f"no {count} free ports on {LOOPBACK} after {_TRIES} tries")


def are_free(ports: Sequence[int]) -> bool:
    """Whether a server could listen on all of these loopback ports now."""
    with ExitStack() as held:
        for port in ports:
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            # As servers do: connections of the last one that still linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


def _first_ephemeral_port() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        return int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
