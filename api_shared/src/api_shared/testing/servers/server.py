"""Servers that jobs can use: found ones, and private ones that are started."""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from api_shared.testing.servers.errors import NotOurServer, ServicesError, ServiceUnavailable
from api_shared.testing.servers.supervisor.client import ProcessSpec, SupervisorClient

OnStep = Callable[[str], None]
"""Called with a few words on what is being done; from several threads."""

_POLL_S = 0.05
_STOP_GRACE_S = 15.0
_LOG_TAIL_LINES = 25


class Engine(ABC):
    """
    A product that can run privately: its commands, and a check that it is ready.

    `folder` is all it may write to. `ports`, `port_count` of them, are fixed for its life, so that
    clients find it again after a restart.
    """

    name: str
    variable: str
    start_deadline_s: float
    port_count = 1

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.folder = folder
        self.ports = tuple(ports)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def management_url(self) -> str | None:
        return None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def processes(self) -> Sequence[ProcessSpec]:
        """Write what must exist before a start; the server last, its helpers before it."""

    @abstractmethod
    def ask(self) -> None:
        """Raise an exception unless the server does its work now; bounded to a few seconds."""


class Server(ABC):
    """`given`: it was found (named by the environment, or kept by Docker Compose), not started."""

    name: str
    variable: str
    url: str
    management_url: str | None
    given: bool
    ports: tuple[int, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """The variables by which a child process finds this server."""
        found = {self.variable: self.url}
        if self.management_url is not None:
            found[f"{self.name.upper()}_MANAGEMENT_URL"] = self.management_url
        return found

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Process id while it runs here; None for a given server, and for one that is down."""

    @abstractmethod
    def ask(self) -> None:
        """Raise ServiceUnavailable unless the server does its work now."""

    @abstractmethod
    def start(self) -> None:
        """Start it again on the same ports and data; returns when it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it in order; returns when it is gone."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""

    @abstractmethod
    def wipe(self) -> None:
        """Remove its data, while it is down: it comes back empty, as after a lost disk."""


class GivenServer(Server):
    """A server that is only used."""

    given = True

    def __init__(
        self,
        name: str,
        variable: str,
        url: str,
        ask: Callable[[], None],
        management_url: str | None = None,
    ) -> None:
        self.name = name
        self.variable = variable
        self.url = url
        self.management_url = management_url
        self._ask = ask

    @property
    def pid(self) -> None:
        return None

    def ask(self) -> None:
        try:
            self._ask()
        except Exception as error:
            raise ServiceUnavailable(
                self.name,
                f"the server that {self.variable} names does not answer ({_short(error)})",
                remedy=f"start it, or unset {self.variable} to get a private one",
            ) from error

    def start(self) -> None:
        raise NotOurServer(self.name, "start")

    def stop(self) -> None:
        raise NotOurServer(self.name, "stop")

    def kill(self) -> None:
        raise NotOurServer(self.name, "kill")

    def wipe(self) -> None:
        raise NotOurServer(self.name, "wipe")


class PrivateServer(Server):
    """A server started here, under a supervisor."""

    given = False

    def __init__(self, engine: Engine, supervisor: SupervisorClient) -> None:
        self.name = engine.name
        self.variable = engine.variable
        self.url = engine.url
        self.management_url = engine.management_url
        self.ports = engine.ports
        self.folder = engine.folder
        self._engine = engine
        self._supervisor = supervisor

    @property
    def pid(self) -> int | None:
        return self._supervisor.poll(self.name)[0]

    def ask(self) -> None:
        try:
            self._engine.ask()
        except Exception as error:
            raise ServiceUnavailable(
                self.name, f"does not answer ({_short(error)})", log_tail=self._log_tail()
            ) from error

    def start(self) -> None:
        if self.pid is not None:
            return
        self._supervisor.start(self.name, self._engine.processes())
        deadline = time.monotonic() + self._engine.start_deadline_s
        while True:
            try:
                self._engine.ask()
            except Exception as error:
                self._check_alive(error, late=time.monotonic() > deadline)
            else:
                return
            time.sleep(_POLL_S)

    def stop(self) -> None:
        self._supervisor.stop(self.name, grace_s=_STOP_GRACE_S)

    def kill(self) -> None:
        self._supervisor.kill(self.name)

    def wipe(self) -> None:
        if self.pid is not None:
            raise ServicesError(f"{self.name} is running: stop or kill it before its data is wiped")
        shutil.rmtree(self.folder)

    def _check_alive(self, error: Exception, *, late: bool) -> None:
        pid, code = self._supervisor.poll(self.name)
        if pid is not None and not late:
            return
        reason = (
            f"ended while starting, with exit code {code}"
            if pid is None
            else f"was not ready after {self._engine.start_deadline_s:.0f} s ({_short(error)})"
        )
        self.kill()
        raise ServiceUnavailable(self.name, reason, log_tail=self._log_tail()) from error

    def _log_tail(self) -> str:
        try:
            lines = self._engine.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(line[:300] for line in lines[-_LOG_TAIL_LINES:])


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
