"""A worker with one task that does nothing."""

from api_shared import JobBroker
from api_shared.worker.engine import attach

broker = JobBroker("general")


@broker.task(task_name="noop")
async def noop() -> None:
    return None


attach(broker, tasks=())
