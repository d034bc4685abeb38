"""
A general worker for the known load.

    taskiq worker api_shared.testing.chaos.workers.worker:broker [MODULE OF A SCENARIO'S TASKS ...]
"""

from api_shared.testing.chaos.workers.load import broker
from api_shared.worker.engine import attach

attach(broker, tasks=())

__all__ = ["broker"]
