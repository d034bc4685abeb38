"""RabbitMQ with its management API: a private node on loopback ports."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api_shared.testing.servers.ports import LOOPBACK
from api_shared.testing.servers.rabbitmq.amqp_handshake import ask_rabbitmq
from api_shared.testing.servers.server import Engine
from api_shared.testing.servers.supervisor.client import ProcessSpec
from api_shared.transport.management import Management

_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class RabbitProgram:
    """
    The paths of RabbitMQ's start script, of Erlang's programs and of the libraries they lack.

    `erlang_bin` and `library_path` None: what is on PATH, and what is installed.
    """

    script: Path
    erlang_bin: Path | None = None
    library_path: str | None = None


class RabbitMQ(Engine):
    """
    The node has its own port mapper (epmd), started and ended with it.

    Erlang would otherwise start one for the whole machine that stays behind and mixes nodes up.
    User and password are RabbitMQ's defaults, which it accepts from loopback only.
    """

    name = "rabbitmq"
    variable = "RABBITMQ_URL"
    start_deadline_s = 120.0
    port_count = 4

    def __init__(self, folder: Path, program: RabbitProgram, ports: Sequence[int]) -> None:
        super().__init__(folder, ports)
        self._program = program
        self._amqp, self._management, self._distribution, self._epmd = ports

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self._amqp}/"

    @property
    def management_url(self) -> str:
        return f"http://guest:guest@{LOOPBACK}:{self._management}"

    def processes(self) -> Sequence[ProcessSpec]:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(self._config(), encoding="utf-8")
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n", encoding="utf-8")
        env = self._env()
        epmd = shutil.which("epmd", path=env["PATH"])
        specs = [] if epmd is None else [self._spec([epmd], env, self._epmd)]
        return [*specs, self._spec([str(self._program.script)], env, self._amqp)]

    def ask(self) -> None:
        ask_rabbitmq(self.url)
        Management(self.management_url, timeout_s=_TIMEOUT_S)("GET", "overview")

    def _spec(self, argv: list[str], env: dict[str, str], port: int) -> ProcessSpec:
        return ProcessSpec(argv=argv, env=env, cwd=str(self.folder), log=str(self.log), port=port)

    def _config(self) -> str:
        return (
            f"listeners.tcp.default = {LOOPBACK}:{self._amqp}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {self._management}\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            "disk_free_limit.absolute = 50MB\n"
        )

    def _env(self) -> dict[str, str]:
        """Nothing of the caller's environment: a RABBITMQ_ variable in it would steer this node."""
        path = os.environ.get("PATH", os.defpath)
        if self._program.erlang_bin is not None:
            path = f"{self._program.erlang_bin}{os.pathsep}{path}"
        # One name for one data folder: the node finds its data again after a restart.
        node = hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        env = {
            "PATH": path,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_NODENAME": f"api-workers-{node}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+B i -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            # Makes the script become Erlang instead of waiting for it: one process, whose id is
            # known and which the kernel can end together with its supervisor.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
        if self._program.library_path is not None:
            env["LD_LIBRARY_PATH"] = self._program.library_path
        return env
