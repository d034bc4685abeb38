"""
A general worker for the known load.

    taskiq worker api_shared.testing.chaos.worker:broker [MODULE WITH A ROW'S OWN TASKS ...]
"""

from api_shared.testing.chaos.load import broker
from api_shared.worker.engine import attach

attach(broker, tasks=())

__all__ = ["broker"]
