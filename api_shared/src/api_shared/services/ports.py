"""Free loopback ports for servers that may be stopped and started again."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

LOOPBACK = "127.0.0.1"
_LOWEST = 10_240
_TRIES = 200


def free_ports(count: int) -> list[int]:
    """
    `count` different ports that nobody listens on now.

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


def is_listening(port: int, *, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _first_ephemeral_port() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        return int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
