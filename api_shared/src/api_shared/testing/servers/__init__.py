"""
RabbitMQ, MongoDB and Redis for development and tests, without a container engine and without root.

    with running_servers(on_step=print) as services:
        subprocess.run(command, env=os.environ | services.env)
        services.rabbitmq.kill()
        services.rabbitmq.start()

Needs the extra `api-shared[services]`. Only `kiq services`, `kiq chaos` and tests import it.
"""

from api_shared.testing.servers.errors import NotOurServer, ServicesError, ServiceUnavailable
from api_shared.testing.servers.mongodb.replica_set import ReplicaSet
from api_shared.testing.servers.server import OnStep, Server
from api_shared.testing.servers.server_set import (
    ALL_SERVICES,
    Services,
    running_servers,
    start_servers,
)

__all__ = [
    "ALL_SERVICES",
    "NotOurServer",
    "OnStep",
    "ReplicaSet",
    "Server",
    "ServiceUnavailable",
    "Services",
    "ServicesError",
    "running_servers",
    "start_servers",
]
