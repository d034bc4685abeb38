"""A service's own subclass of the broker, its worker in the same module."""

from api_shared.client.job_broker import JobBroker
from api_shared.worker.engine import attach


class OwnBroker(JobBroker):
    """With whatever the service wants to keep here."""


broker = OwnBroker("general")


@broker.task
async def greet(name: str = "you") -> str:
    return f"hello {name}"


attach(broker, tasks=())
