"""
The models of a project in the storage: versioned, written atomically, refused if damaged.

    projects/{project_id}/models/current.json                   which version is in force
    projects/{project_id}/models/{version}/weights.safetensors
    projects/{project_id}/models/{version}/model.json           its hash, shapes, classes, metrics
"""

from workers_ml.models.cache import ModelCache
from workers_ml.models.description import Description
from workers_ml.models.errors import ModelRefused, NoModel, UnknownVersion
from workers_ml.models.model_id import model_id_of, parse_model_id
from workers_ml.models.store import ModelStore, StoredModel

__all__ = [
    "Description",
    "ModelCache",
    "ModelRefused",
    "ModelStore",
    "NoModel",
    "StoredModel",
    "UnknownVersion",
    "model_id_of",
    "parse_model_id",
]
