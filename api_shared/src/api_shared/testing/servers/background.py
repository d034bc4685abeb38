"""Servers that stay when the command that started them ends: `kiq services up`."""

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
    Make all servers stand; returns how, and whether any had to be started.

    Data is in `folder` and outlives `down`; ports stay the same while nobody else takes them.
    Raises ServiceUnavailable.
    """
    with locked(folder):
        state = load_state(folder)
        if state.keeper is not None and state.keeper.is_running():
            if not any(unanswered(state).values()):
                return state, False
            on_step("some servers are down: starting all of them again")
            state.keeper.end(grace_s=_END_DEADLINE_S)
        data = folder.absolute() / _DATA
        data.mkdir(exist_ok=True)
        services = start_servers(
            data,
            env=without_stale(env, state),
            compose_file=compose_file,
            on_step=on_step,
            ports={server.name: server.ports for server in state.servers},
        )
        standing = tuple(
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
        keeper = services.keeper
        mark = None if keeper is None else ProcessIdentity.of(keeper.pid)
        # Before it is let go: a record that cannot be written must not leave servers behind.
        save_state(folder, State(keeper=mark, servers=standing))
        if keeper is not None:
            keeper.let_go()
        return load_state(folder), keeper is not None


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
        was_running = state.keeper is not None and state.keeper.end(grace_s=_END_DEADLINE_S)
        if state.keeper is not None and state.keeper.is_running():
            raise ServicesError(f"the keeper, process {state.keeper.pid}, could not be ended")
        forget_servers(folder, state)
        if wipe:
            shutil.rmtree(folder / _DATA, ignore_errors=True)
    return tuple(server.name for server in state.servers if server.pid) if was_running else ()


def is_down(state: State) -> bool:
    """Whether nothing stands: never started, stopped, or gone with a reboot."""
    started = any(server.pid for server in state.servers)
    return not state.servers or (started and (not state.keeper or not state.keeper.is_running()))
