"""Delete a project's models."""

from __future__ import annotations

import asyncio

from api_shared.broker import ml_broker
from api_shared.contracts.ml import DELETE_MODEL, DeleteModelArgs, DeleteModelResult
from api_shared.settings import load_settings
from api_shared.storage import open_storage
from workers_ml.models import ModelStore


@ml_broker.task(DELETE_MODEL)
async def delete_model(args: DeleteModelArgs) -> DeleteModelResult:
    """Deleting what is not there is no error: the job may run twice."""
    store = ModelStore(open_storage(load_settings().storage_url), args.project_id)
    deleted = await asyncio.to_thread(store.delete)
    return DeleteModelResult(project_id=args.project_id, deleted=deleted)
