"""The task `ml_inference`: it labels texts with a model in the memory of the worker."""

from __future__ import annotations

import asyncio

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml import (
    ML_INFERENCE,
    LabelProbability,
    MlInferenceArgs,
    MlInferenceResult,
)
from api_shared.errors import Discard
from api_shared.storage import InvalidKey
from workers_ml.models import ModelCache, ModelRefused, NoModel, UnknownVersion
from workers_ml.projects.infer import infer
from workers_ml.storage import worker_models

PERMANENT_ERRORS = (InvalidKey, ModelRefused, NoModel, UnknownVersion)
"""No retry can fix these."""


@ml_broker.task(ML_INFERENCE)
async def ml_inference(
    args: MlInferenceArgs, models: ModelCache = TaskiqDepends(worker_models)
) -> MlInferenceResult:
    """In a thread, so that loading a model does not block the event loop."""
    texts = [args.input_data] if isinstance(args.input_data, str) else args.input_data
    try:
        model_id, found = await asyncio.to_thread(infer, models, args.model_id, texts, args.top)
    except PERMANENT_ERRORS as error:
        raise Discard(str(error)) from error
    return MlInferenceResult(
        model_id=model_id,
        predictions=[
            [
                LabelProbability(label=each.label, probability=round(each.probability, 6))
                for each in best
            ]
            for best in found
        ],
    )
