"""
Docker Compose as a source of servers, if an engine answers.

The tests need no engine and do not run this against one: they check that an engine that does not
answer is skipped quickly.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from api_shared.testing.servers.errors import ServicesError

_ASK_DEADLINE_S = 5.0
_UP_DEADLINE_S = 300.0
SERVICE_NAMES = {"rabbitmq": "rabbitmq", "mongodb": "mongo", "redis": "valkey"}
URLS = {
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672/",
    "mongodb": "mongodb://127.0.0.1:27017/?directConnection=true",
    "redis": "redis://127.0.0.1:6379/0",
}
MANAGEMENT_URL = "http://guest:guest@127.0.0.1:15672"


def engine_answers() -> bool:
    """Whether a container engine with Compose answers within a few seconds."""
    docker = shutil.which("docker")
    return docker is not None and all(
        _succeeds([docker, *question]) for question in (["info"], ["compose", "version"])
    )


def compose_up(compose_file: Path, names: Sequence[str]) -> None:
    """Start the services of `names` and wait until Compose calls them healthy."""
    services = [SERVICE_NAMES[name] for name in names]
    argv = ["docker", "compose", "-f", str(compose_file), "up", "-d", "--wait", *services]
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_UP_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise ServicesError(f"docker compose up took over {_UP_DEADLINE_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        tail = "\n".join(str(error.stderr).splitlines()[-5:])
        raise ServicesError(f"docker compose up failed\n{tail}") from error


def _succeeds(argv: Sequence[str]) -> bool:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_ASK_DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
