"""Answer what a text is, from a model in this process's memory."""

from __future__ import annotations

import asyncio
from functools import cache

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml import (
    ML_INFERENCE,
    LabelProbability,
    MlInferenceArgs,
    MlInferenceResult,
)
from api_shared.errors import Discard
from api_shared.settings import load_settings
from api_shared.storage import InvalidKey, open_storage
from workers_ml.models import ModelCache, ModelRefused, NoModel, UnknownVersion
from workers_ml.projects.infer import infer

HOPELESS = (InvalidKey, ModelRefused, NoModel, UnknownVersion)
"""No retry mends these."""


@cache
def loaded_models() -> ModelCache:
    """Those of this process."""
    return ModelCache(open_storage(load_settings().storage_url))


@ml_broker.task(ML_INFERENCE)
async def ml_inference(
    args: MlInferenceArgs, models: ModelCache = TaskiqDepends(loaded_models)
) -> MlInferenceResult:
    """In a thread: a model that has to be loaded first does not hold up the event loop."""
    texts = [args.input_data] if isinstance(args.input_data, str) else args.input_data
    try:
        model_id, found = await asyncio.to_thread(infer, models, args.model_id, texts, args.top)
    except HOPELESS as error:
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
