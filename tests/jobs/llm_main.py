"""A general worker whose tasks call a model: `taskiq worker jobs.llm_main:broker`."""

from api_shared.worker.engine import attach
from jobs.broker import broker
from workers_general.llm.lifecycle import serve_models

attach(broker, tasks=("jobs.llm_tasks",))
serve_models(broker)

__all__ = ["broker"]
