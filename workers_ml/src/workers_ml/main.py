"""The ML worker: `taskiq worker workers_ml.main:broker`."""

from api_shared.broker import ml_broker
from api_shared.worker.engine import attach

attach(
    ml_broker,
    tasks=(
        "workers_ml.tasks.delete_model",
        "workers_ml.tasks.index_documents",
        "workers_ml.tasks.ml_inference",
        "workers_ml.tasks.predict_documents",
        "workers_ml.tasks.similar_documents",
        "workers_ml.tasks.train_model",
    ),
)

broker = ml_broker

__all__ = ["broker", "ml_broker"]
