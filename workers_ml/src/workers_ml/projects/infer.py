"""Inference of labels with a model in memory."""

from __future__ import annotations

from collections.abc import Sequence

from workers_ml.classifier import Prediction
from workers_ml.features import count_features
from workers_ml.models import ModelCache, model_id_of


def infer(
    models: ModelCache, model_id: str, texts: Sequence[str], top: int = 1
) -> tuple[str, list[list[Prediction]]]:
    """
    The id of the model with its version, and the `top` most likely labels of each text.

    Blocks for about 0.7 ms; loads the model first if it is not in memory. Raises `NoModel`,
    `UnknownVersion`, `ModelRefused`.
    """
    project_id, model = models.get(model_id)
    version = model_id_of(project_id, model.description.version)
    return version, model.classifier.predict_top(count_features(texts), top)
