"""The record of the servers in a folder: `up` writes it, `status` and `down` read it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from api_shared.testing.servers.errors import ServicesError
from api_shared.testing.servers.process_identity import ProcessIdentity

_STATE = "state.json"
_ENV = "env"


class BackgroundServer(BaseModel):
    """A server as it was when `up` ended. `pid` None: given, not started here."""

    model_config = ConfigDict(frozen=True)

    name: str
    url: str
    management_url: str | None
    pid: int | None
    ports: tuple[int, ...] = ()
    env: dict[str, str]


class State(BaseModel):
    """`supervisor` None: nothing was started here, or `down` has stopped it."""

    model_config = ConfigDict(frozen=True)

    supervisor: ProcessIdentity | None = None
    servers: tuple[BackgroundServer, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        return {key: value for server in self.servers for key, value in server.env.items()}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time in this folder, which is made for its owner only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def load_state(folder: Path) -> State:
    """An empty state if nothing was ever recorded."""
    path = folder / _STATE
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State()
    except ValidationError as error:
        raise ServicesError(
            f"{path} is not a readable record of servers: remove it and start again"
        ) from error


def save_state(folder: Path, state: State) -> None:
    """Also writes `env`, in lines that a shell and `--env-file` read, while servers run."""
    _write(folder / _STATE, state.model_dump_json(indent=2) + "\n")
    _write(folder / _ENV, env_lines(state.env))


def forget_servers(folder: Path, state: State) -> None:
    """Record that nothing runs. The addresses stay: see `without_stale`."""
    _write(folder / _STATE, state.model_copy(update={"supervisor": None}).model_dump_json(indent=2))
    (folder / _ENV).unlink(missing_ok=True)


def without_stale(env: Mapping[str, str], state: State) -> dict[str, str]:
    """
    `env` without what a shell still holds of an earlier `up` in this folder.

    Those variables name servers that `up` started and that are gone, not servers of other origin.
    """
    started = {k: v for server in state.servers if server.pid for k, v in server.env.items()}
    return {key: value for key, value in env.items() if started.get(key) != value}


def env_lines(env: Mapping[str, str]) -> str:
    """KEY=value lines; our values need no quotes in a shell, others get them."""
    return "".join(f"{key}={_quoted(value)}\n" for key, value in env.items())


def _quoted(value: str) -> str:
    harmless = all(char.isalnum() or char in "_-./:@%?=+," for char in value)
    return value if harmless else "'" + value.replace("'", "'\\''") + "'"


def _write(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner only: the addresses carry passwords."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.rename(path)
