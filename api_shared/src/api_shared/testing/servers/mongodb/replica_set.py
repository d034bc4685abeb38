"""A MongoDB replica set of several private nodes, for what one node cannot show: elections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from api_shared.testing.servers.errors import ServicesError, ServiceUnavailable
from api_shared.testing.servers.mongodb.node import SET, MongoDB, ask_mongodb, client_of, is_primary
from api_shared.testing.servers.ports import LOOPBACK
from api_shared.testing.servers.server import PrivateServer, Server
from api_shared.testing.servers.supervisor.client import SupervisorClient

_POLL_S = 0.1
_ELECTION_S = 180.0


class _Member(MongoDB):
    """One node, ready as soon as it answers: the set elects its primary by itself."""

    def __init__(self, folder: Path, program: Path, port: int, position: int) -> None:
        super().__init__(folder, program, [port])
        self.name = f"mongodb-{position}"

    def ask(self) -> None:
        with client_of(self.direct_url) as client:
            client.admin.command("ping")


class ReplicaSet(Server):
    """
    All nodes together behave as one server; `primary`, `step_down` and `nodes` are for tests that
    break a part of it.
    """

    name = "mongodb"
    variable = MongoDB.variable
    management_url = None
    given = False

    def __init__(
        self, folder: Path, program: Path, ports: Sequence[int], supervisor: SupervisorClient
    ) -> None:
        self.ports = tuple(ports)
        self.nodes = [
            PrivateServer(_Member(folder / str(position), program, port, position), supervisor)
            for position, port in enumerate(ports)
        ]
        self._hosts = [f"{LOOPBACK}:{port}" for port in ports]
        self.url = f"mongodb://{','.join(self._hosts)}/?replicaSet={SET}"

    @property
    def pid(self) -> int | None:
        """Of its first node that runs."""
        return next((node.pid for node in self.nodes if node.pid is not None), None)

    def ask(self) -> None:
        try:
            ask_mongodb(self.url)
        except Exception as error:
            raise ServiceUnavailable(self.name, f"has no primary ({error})") from error

    def primary(self) -> PrivateServer:
        """The node that takes writes, once there is one. Raises `ServicesError`."""
        deadline = time.monotonic() + _ELECTION_S
        while time.monotonic() < deadline:
            for node, host in zip(self.nodes, self._hosts, strict=True):
                with suppress(Exception), client_of(_direct(host)) as client:
                    if is_primary(client):
                        return node
            time.sleep(_POLL_S)
        raise ServicesError("the replica set has no primary")

    def step_down(self, *, seconds: int = 60) -> None:
        """Make the primary step down: for `seconds` another node is elected in its place."""
        host = self._hosts[self.nodes.index(self.primary())]
        with client_of(_direct(host)) as client:
            client.admin.command(
                "replSetStepDown", seconds, secondaryCatchUpPeriodSecs=seconds // 2
            )

    def start(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(PrivateServer.start, self.nodes))
        self._initiate()
        deadline = time.monotonic() + _ELECTION_S
        while True:
            try:
                return self.ask()
            except ServiceUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def wipe(self) -> None:
        for node in self.nodes:
            node.wipe()

    def _initiate(self) -> None:
        """Make the nodes one set, on its first start."""
        members = [{"_id": place, "host": host} for place, host in enumerate(self._hosts)]
        with client_of(_direct(self._hosts[0])) as client:
            if not client.admin.command("hello").get("setName"):
                client.admin.command("replSetInitiate", {"_id": SET, "members": members})


def _direct(host: str) -> str:
    return f"mongodb://{host}/?directConnection=true"
