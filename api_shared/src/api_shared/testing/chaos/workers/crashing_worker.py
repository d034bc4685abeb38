"""
A worker that ends by kill -9, once for each job that names a point.

    taskiq worker api_shared.testing.chaos.workers.crashing_worker:broker
"""

from api_shared.testing.chaos.workers.kill_points import arm
from api_shared.testing.chaos.workers.load import broker
from api_shared.worker.engine import attach

arm()
attach(broker, tasks=())

__all__ = ["broker"]
