"""A general worker with the tests' own tasks: `taskiq worker jobs.main:broker`."""

from api_shared.worker.engine import attach
from jobs.broker import broker

attach(broker, tasks=("jobs.tasks", "jobs.blockers"))

__all__ = ["broker"]
