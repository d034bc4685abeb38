"""The general worker: `taskiq worker workers_general.main:broker`."""

from api_shared.broker import broker
from api_shared.worker.engine import attach
from workers_general.llm.lifecycle import serve_models

attach(
    broker,
    tasks=(
        "workers_general.tasks.extract_keywords",
        "workers_general.tasks.generate_image",
        "workers_general.tasks.generate_speech",
        "workers_general.tasks.generate_text",
        "workers_general.tasks.health_check",
        "workers_general.tasks.housekeeping",
        "workers_general.tasks.normalize_json",
        "workers_general.tasks.process_data",
        "workers_general.tasks.process_job",
        "workers_general.tasks.summarize_text",
    ),
)
serve_models(broker)

__all__ = ["broker"]
