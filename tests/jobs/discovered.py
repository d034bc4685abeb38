"""A worker that lists no task modules: taskiq's `-fsd -tp` finds them."""

from api_shared.client.job_broker import JobBroker
from api_shared.worker.engine import attach

broker = JobBroker("general")
attach(broker, tasks=())
