"""The task `delete_model`: it deletes the models of a project."""

from __future__ import annotations

import asyncio

from taskiq import TaskiqDepends

from api_shared.broker import ml_broker
from api_shared.contracts.ml import DELETE_MODEL, DeleteModelArgs, DeleteModelResult
from api_shared.storage import Storage
from workers_ml.models import ModelStore
from workers_ml.storage import worker_storage


@ml_broker.task(DELETE_MODEL)
async def delete_model(
    args: DeleteModelArgs, storage: Storage = TaskiqDepends(worker_storage)
) -> DeleteModelResult:
    """It is no error if there is no model: the job may run twice."""
    deleted = await asyncio.to_thread(ModelStore(storage, args.project_id).delete)
    return DeleteModelResult(project_id=args.project_id, deleted=deleted)
