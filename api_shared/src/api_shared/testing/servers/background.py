"""Servers of `kiq services up`, which outlive the command that started them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from api_shared.testing.servers.errors import ServicesError, ServiceUnavailable
from api_shared.testing.servers.from_environment import found_server
from api_shared.testing.servers.process_identity import ProcessIdentity
from api_shared.testing.servers.server import OnStep
from api_shared.testing.servers.server_set import start_servers
from api_shared.testing.servers.state import (
    BackgroundServer,
    State,
    forget_servers,
    load_state,
    locked,
    save_state,
    without_stale,
)

_DATA = "data"
_END_DEADLINE_S = 45.0


def up(
    folder: Path, *, env: Mapping[str, str], compose_file: Path | None, on_step: OnStep
) -> tuple[State, bool]:
    """
    Start all servers that do not run; returns their state, and whether any had to be started.

    Data is in `folder` and outlives `down`; ports stay the same while no other program takes them.
    Raises ServiceUnavailable.
    """
    with locked(folder):
        state = load_state(folder)
        if state.supervisor is not None and state.supervisor.is_running():
            if not any(unanswered(state).values()):
                return state, False
            on_step("some servers are down: starting all of them again")
            state.supervisor.end(grace_s=_END_DEADLINE_S)
        data = folder.absolute() / _DATA
        data.mkdir(exist_ok=True)
        services = start_servers(
            data,
            env=without_stale(env, state),
            compose_file=compose_file,
            on_step=on_step,
            ports={server.name: server.ports for server in state.servers},
        )
        servers = tuple(
            BackgroundServer(
                name=server.name,
                url=server.url,
                management_url=server.management_url,
                pid=server.pid,
                ports=server.ports,
                env=server.env,
            )
            for server in services.servers.values()
        )
        supervisor = services.supervisor
        identity = None if supervisor is None else ProcessIdentity.of(supervisor.pid)
        # Written before the supervisor is detached: a failure here must not leave servers behind.
        save_state(folder, State(supervisor=identity, servers=servers))
        if supervisor is not None:
            supervisor.let_go()
        return load_state(folder), supervisor is not None


def unanswered(state: State) -> dict[str, ServiceUnavailable | None]:
    """Ask every server: by name, why it does not answer, or None."""
    answers: dict[str, ServiceUnavailable | None] = dict.fromkeys(
        server.name for server in state.servers
    )
    for server in state.servers:
        try:
            found_server(server.name, server.url, server.management_url).ask()
        except ServiceUnavailable as error:
            answers[server.name] = error
    return answers


def down(folder: Path, *, wipe: bool) -> tuple[str, ...]:
    """Stop what `up` started here; returns the names. `wipe` removes the data too."""
    if not folder.is_dir():
        return ()
    with locked(folder):
        state = load_state(folder)
        was_running = state.supervisor is not None and state.supervisor.end(grace_s=_END_DEADLINE_S)
        if state.supervisor is not None and state.supervisor.is_running():
            raise ServicesError(
                f"the supervisor, process {state.supervisor.pid}, could not be ended"
            )
        forget_servers(folder, state)
        if wipe:
            shutil.rmtree(folder / _DATA, ignore_errors=True)
    return tuple(server.name for server in state.servers if server.pid) if was_running else ()


def is_down(state: State) -> bool:
    """Whether nothing runs: never started, stopped, or gone with a reboot."""
    started = any(server.pid for server in state.servers)
    return not state.servers or (
        started and (not state.supervisor or not state.supervisor.is_running())
    )
