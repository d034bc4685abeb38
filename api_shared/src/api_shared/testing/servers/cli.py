"""`kiq services`: servers for development. Data goes to stdout, messages to stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from api_shared.testing.servers.background import down as take_down
from api_shared.testing.servers.background import is_down, unanswered
from api_shared.testing.servers.background import up as bring_up
from api_shared.testing.servers.errors import ServicesError
from api_shared.testing.servers.state import State, env_lines, load_state

EXIT_USAGE = 2
EXIT_UNREACHABLE = 4

services_app = typer.Typer(
    help="RabbitMQ, MongoDB and Valkey for development, without containers or root.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option(help="Where state, logs and data are kept.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Compose = Annotated[
    Path, typer.Option(help="Compose file to use where a container engine answers.")
]
_FOLDER = Path(".services")
_COMPOSE = Path("compose.yaml")


@services_app.command()
def up(folder: Folder = _FOLDER, compose: Compose = _COMPOSE, as_json: AsJson = False) -> None:
    """
    Start what is not running yet, and print the variables that name the servers.

    A server that RABBITMQ_URL, MONGODB_URL or REDIS_URL names is used as it is. The variables are
    also in .services/env: `set -a; . .services/env; set +a`.
    """
    with _explained():
        state, started = bring_up(folder, env=os.environ, compose_file=compose, on_step=_say)
        _say(f"ready; variables are in {folder / 'env'}" if started else "already running")
        if as_json:
            _print_json({"started": started, "env": state.env, "servers": _described(state)})
        else:
            typer.echo(env_lines(state.env), nl=False)


@services_app.command()
def status(folder: Folder = _FOLDER, as_json: AsJson = False) -> None:
    """Ask each server. Exit code 4 if one does not answer, or none runs."""
    with _explained():
        state = load_state(folder)
        if is_down(state):
            if as_json:
                _print_json({"servers": []})
            raise ServicesError("no services run here; start them: kiq services up")
        failures = unanswered(state)
        if as_json:
            _print_json({"servers": _described(state)})
        for server in state.servers:
            failure = failures[server.name]
            if not as_json:
                word = "ready" if failure is None else "down"
                typer.echo(f"{server.name:9} {word:6} {_without_password(server.url)}")
            if failure is not None:
                _say(str(failure))
    if any(failures.values()):
        raise typer.Exit(EXIT_UNREACHABLE)


@services_app.command()
def down(
    folder: Folder = _FOLDER,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop what `up` started here. The data stays, unless --wipe is given."""
    with _explained():
        stopped = take_down(folder, wipe=wipe)
    if as_json:
        _print_json({"stopped": stopped})
    _say(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@contextmanager
def _explained() -> Iterator[None]:
    """A sentence and an exit code instead of a traceback."""
    try:
        yield
    except ServicesError as error:
        _say(str(error))
        raise typer.Exit(EXIT_UNREACHABLE) from None
    except OSError as error:
        _say(f"{error.filename or 'the services folder'}: {error.strerror or error}")
        raise typer.Exit(EXIT_USAGE) from None


def _described(state: State) -> list[dict[str, Any]]:
    answers = unanswered(state)
    return [
        {
            "name": server.name,
            "ready": answers[server.name] is None,
            "given": server.pid is None,
            "pid": server.pid,
            "url": _without_password(server.url),
            "management_url": server.management_url and _without_password(server.management_url),
        }
        for server in state.servers
    ]


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:***@{host}").geturl()


def _print_json(answer: dict[str, Any]) -> None:
    typer.echo(json.dumps(answer, indent=2))


def _say(text: str) -> None:
    typer.echo(text, err=True)
