"""The set of servers that jobs need: named ones, and private ones for the rest."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from api_shared.testing.servers.compose import MANAGEMENT_URL, URLS, compose_up, engine_answers
from api_shared.testing.servers.errors import ServicesError, ServiceUnavailable
from api_shared.testing.servers.from_environment import (
    VARIABLES,
    found_server,
    server_from_environment,
)
from api_shared.testing.servers.mongodb.node import MongoDB, find_mongod
from api_shared.testing.servers.mongodb.replica_set import ReplicaSet
from api_shared.testing.servers.ports import are_free, free_ports
from api_shared.testing.servers.rabbitmq.node import RabbitMQ
from api_shared.testing.servers.rabbitmq.program import find_rabbitmq
from api_shared.testing.servers.server import Engine, OnStep, PrivateServer, Server
from api_shared.testing.servers.supervisor.client import SupervisorClient
from api_shared.testing.servers.valkey import Valkey, find_valkey

ALL_SERVICES = ("rabbitmq", "mongodb", "redis")
_PORT_TRIES = 3


class Services:
    """
    The servers of one `running_servers`. Asking for one that was left out is a ServicesError.
    """

    def __init__(self, servers: Mapping[str, Server], supervisor: SupervisorClient | None) -> None:
        self.servers = dict(servers)
        self.supervisor = supervisor

    @property
    def rabbitmq(self) -> Server:
        return self._server("rabbitmq")

    @property
    def mongodb(self) -> Server:
        return self._server("mongodb")

    @property
    def redis(self) -> Server:
        return self._server("redis")

    @property
    def env(self) -> dict[str, str]:
        """The variables by which a child process finds all of them."""
        return {key: value for server in self.servers.values() for key, value in server.env.items()}

    def close(self) -> None:
        """Stop what was started. Harmless twice."""
        if self.supervisor is not None:
            self.supervisor.close()

    def _server(self, name: str) -> Server:
        try:
            return self.servers[name]
        except KeyError:
            raise ServicesError(
                f"{name} was not requested; running: {', '.join(self.servers)}"
            ) from None


@contextmanager
def running_servers(
    *,
    on_step: OnStep | None = None,
    only: Sequence[str] = ALL_SERVICES,
    compose_file: Path | None = None,
    env: Mapping[str, str] | None = None,
    mongodb_nodes: int = 1,
) -> Iterator[Services]:
    """
    A block with RabbitMQ, MongoDB and Redis, which are ready when it begins.

        with running_servers(only=["redis"]) as services:
            probe = "import os; print(os.environ['REDIS_URL'])"
            env = os.environ | services.env
            printed = subprocess.check_output([sys.executable, "-c", probe], env=env, text=True)
            assert printed.strip() == services.redis.url

    Each is the server that `env` (default: the environment) names, else one of Docker Compose if
    `compose_file` is passed and an engine answers, else a private one on free loopback ports with
    its data in a temporary folder. Private ones end with the block, or with this process however it
    ends. `mongodb_nodes` over 1: a private MongoDB is a `ReplicaSet`. Raises ServiceUnavailable.
    """
    folder = Path(tempfile.mkdtemp(prefix="api-workers-"))
    services: Services | None = None
    try:
        services = start_servers(
            folder,
            remove_folder=True,
            on_step=on_step,
            only=only,
            compose_file=compose_file,
            env=env,
            mongodb_nodes=mongodb_nodes,
        )
        yield services
    finally:
        if services is not None:
            services.close()
        shutil.rmtree(folder, ignore_errors=True)


def start_servers(
    folder: Path,
    *,
    remove_folder: bool = False,
    on_step: OnStep | None = None,
    only: Sequence[str] = ALL_SERVICES,
    compose_file: Path | None = None,
    env: Mapping[str, str] | None = None,
    ports: Mapping[str, Sequence[int]] | None = None,
    mongodb_nodes: int = 1,
) -> Services:
    """
    As `running_servers`, with the data in `folder` and the end left to the caller.

    `remove_folder`: the supervisor removes it after it has stopped the servers. `ports`: those to
    take again, by name of the server, if they are still free.
    """
    env = os.environ if env is None else env
    report = on_step or (lambda _: None)
    servers: dict[str, Server] = {}
    for name in only:
        if given := server_from_environment(name, env):
            given.ask()
            servers[name] = given
    servers |= _from_compose([name for name in only if name not in servers], compose_file, report)
    missing = [name for name in only if name not in servers]
    if not missing:
        return Services(servers, None)

    if sys.platform != "linux":
        raise ServiceUnavailable(
            ", ".join(missing),
            f"private servers are started on Linux only, not on {sys.platform}",
            remedy=f"set {', '.join(VARIABLES[name] for name in missing)}, or start Docker",
        )
    supervisor = SupervisorClient(folder, remove=remove_folder)
    with ThreadPoolExecutor(len(missing), thread_name_prefix="start") as pool:
        try:
            starting = [
                pool.submit(_started_set, folder / name, supervisor, report, mongodb_nodes)
                if name == "mongodb" and mongodb_nodes > 1
                else pool.submit(
                    _started, name, folder, supervisor, report, (ports or {}).get(name, ())
                )
                for name in missing
            ]
            for ready in as_completed(starting):
                servers[ready.result().name] = ready.result()
        except BaseException:
            supervisor.close()  # the other starts give up as soon as they look
            raise
    return Services({name: servers[name] for name in only}, supervisor)


def _from_compose(
    names: Sequence[str], compose_file: Path | None, report: OnStep
) -> dict[str, Server]:
    if not names or compose_file is None or not compose_file.is_file() or not engine_answers():
        return {}
    report(f"docker compose up: {', '.join(names)}")
    compose_up(compose_file, names)
    found: dict[str, Server] = {}
    for name in names:
        server = found_server(name, URLS[name], MANAGEMENT_URL if name == "rabbitmq" else None)
        server.ask()
        found[name] = server
    return found


def _started(
    name: str, folder: Path, supervisor: SupervisorClient, report: OnStep, preferred: Sequence[int]
) -> PrivateServer:
    engine = _engine(name, folder / name, preferred, report)
    report(f"starting {name}")
    for tries_left in reversed(range(_PORT_TRIES)):
        server = PrivateServer(engine, supervisor)
        try:
            server.start()
            break
        except ServiceUnavailable:
            # Between the choice of a port and its use, another program may take it.
            if tries_left == 0 or are_free(engine.ports):
                raise
            engine = _engine(name, folder / name, (), report)
    report(f"{name} is ready")
    return server


def _started_set(
    folder: Path, supervisor: SupervisorClient, report: OnStep, nodes: int
) -> ReplicaSet:
    report(f"starting mongodb, {nodes} nodes")
    server = ReplicaSet(folder, find_mongod(), free_ports(nodes), supervisor)
    server.start()
    report("mongodb is ready")
    return server


def _engine(name: str, folder: Path, preferred: Sequence[int], report: OnStep) -> Engine:
    """The engine of `name`, on the `preferred` ports if they are free."""

    def ports(count: int) -> Sequence[int]:
        return preferred if len(preferred) == count and are_free(preferred) else free_ports(count)

    match name:
        case "rabbitmq":
            return RabbitMQ(folder, find_rabbitmq(report), ports(RabbitMQ.port_count))
        case "mongodb":
            return MongoDB(folder, find_mongod(), ports(MongoDB.port_count))
        case "redis":
            return Valkey(folder, find_valkey(), ports(Valkey.port_count))
    raise ServicesError(f"no service named {name!r}; known: {', '.join(ALL_SERVICES)}")
