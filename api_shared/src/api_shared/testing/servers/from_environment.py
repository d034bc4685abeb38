"""Servers that the environment names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from api_shared.testing.servers.mongodb.node import ask_mongodb
from api_shared.testing.servers.rabbitmq.amqp_handshake import ask_rabbitmq
from api_shared.testing.servers.server import GivenServer
from api_shared.testing.servers.valkey import ask_redis

VARIABLES = {"rabbitmq": "RABBITMQ_URL", "mongodb": "MONGODB_URL", "redis": "REDIS_URL"}
_ASK: dict[str, Callable[[str], None]] = {
    "rabbitmq": ask_rabbitmq,
    "mongodb": ask_mongodb,
    "redis": ask_redis,
}


def server_from_environment(name: str, env: Mapping[str, str]) -> GivenServer | None:
    """The server `name` as the environment has it; None if it says nothing. It is not asked."""
    url = env.get(VARIABLES[name], "")
    if not url and name == "rabbitmq" and env.get("RABBITMQ_HOST"):
        url = _rabbitmq_url(env)
    if not url:
        return None
    management = env.get("RABBITMQ_MANAGEMENT_URL") if name == "rabbitmq" else None
    return found_server(name, url, management or None)


def found_server(name: str, url: str, management_url: str | None) -> GivenServer:
    """A handle for a server at `url` that was not started here."""
    return GivenServer(name, VARIABLES[name], url, lambda: _ASK[name](url), management_url)


def _rabbitmq_url(env: Mapping[str, str]) -> str:
    user = quote(env.get("RABBITMQ_USERNAME") or "guest", safe="")
    password = quote(env.get("RABBITMQ_PASSWORD") or "guest", safe="")
    vhost = quote(env.get("RABBITMQ_VHOST") or "/", safe="")
    port = env.get("RABBITMQ_PORT") or "5672"
    return f"amqp://{user}:{password}@{env['RABBITMQ_HOST']}:{port}/{vhost}"
