"""Workers that must not start: `taskiq worker jobs.refused:NAME`."""

from taskiq import SimpleRetryMiddleware, SmartRetryMiddleware

from api_shared.client.bind.contract_from_signature import contract_from_signature
from api_shared.client.job_broker import JobBroker
from api_shared.worker.engine import attach


def two(a: int) -> int:
    return 2 * a


def not_imported() -> JobBroker:
    broker = JobBroker("general")
    attach(broker, tasks=("jobs.tasks", "jobs.broken"))
    return broker


def task_missing() -> JobBroker:
    broker = JobBroker("general").know(contract_from_signature(two, "two", queue="low"))
    attach(broker, tasks=())
    return broker


def retries() -> JobBroker:
    broker = JobBroker("general").with_middlewares(SimpleRetryMiddleware(), SmartRetryMiddleware())
    attach(broker, tasks=())
    return broker


def right() -> JobBroker:
    """Nothing is wrong with this one but what the environment says."""
    broker = JobBroker("general")
    attach(broker, tasks=())
    return broker


def unattached() -> JobBroker:
    """Nobody made it a worker."""
    return JobBroker("general")
