"""
A worker that dies by kill -9, once for each job that names a point.

    taskiq worker api_shared.testing.chaos.crashing_worker:broker
"""

from api_shared.testing.chaos.kill_points import arm
from api_shared.testing.chaos.load import broker
from api_shared.worker.engine import attach

arm()
attach(broker, tasks=())

__all__ = ["broker"]
