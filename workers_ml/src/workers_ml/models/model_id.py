"""Model ids: `project`, or `project@version` for a model that never changes."""

from __future__ import annotations


def parse_model_id(model_id: str) -> tuple[str, str | None]:
    """Project id and version; None stands for the version in force."""
    project_id, at, version = model_id.rpartition("@")
    return (project_id, version) if at else (model_id, None)


def model_id_of(project_id: str, version: str) -> str:
    return f"{project_id}@{version}"
