"""Errors of a project's model; each message names the way out."""

from __future__ import annotations

from api_shared.errors import ApiWorkersError


class ModelProblem(ApiWorkersError):
    """The base of all errors of a stored model."""


class NoModel(ModelProblem):
    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        super().__init__(f"project {project_id!r} has no model yet: run train_model first")


class UnknownVersion(ModelProblem):
    def __init__(self, project_id: str, version: str, known: tuple[str, ...]) -> None:
        self.project_id = project_id
        self.version = version
        self.known = known
        super().__init__(
            f"project {project_id!r} has no model version {version!r}; known: {', '.join(known)}"
        )


class ModelRefused(ModelProblem):
    """A file of a model is damaged, of another version, or of another origin; it is not used."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        self.problem = problem
        super().__init__(f"the model is refused: {key}: {problem}; train it again with train_model")
