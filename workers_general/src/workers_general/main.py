"""The general worker: `taskiq worker workers_general.main:broker`."""

from api_shared.brokers import broker
from api_shared.worker.engine import attach

attach(
    broker,
    tasks=(
        "workers_general.tasks.health_check",
        "workers_general.tasks.process_data",
    ),
)

__all__ = ["broker"]
