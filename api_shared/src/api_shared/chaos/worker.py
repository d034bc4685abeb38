"""
A general worker for the known load.

    taskiq worker api_shared.chaos.worker:broker [MODULE WITH A ROW'S OWN TASKS ...]
"""

from api_shared.chaos.load import broker
from api_shared.worker.engine import attach

attach(broker, tasks=())

__all__ = ["broker"]
