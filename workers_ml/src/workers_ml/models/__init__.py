"""
A project's models in the storage: versioned, written whole, refused when anything is wrong.

    projects/{project_id}/models/current.json                   which version counts
    projects/{project_id}/models/{version}/weights.safetensors
    projects/{project_id}/models/{version}/model.json           its hash, shapes, classes, metrics
"""

from .cache import ModelCache
from .description import Description
from .errors import ModelRefused, NoModel, UnknownVersion
from .model_id import model_id_of, parse_model_id
from .store import ModelStore, StoredModel

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
