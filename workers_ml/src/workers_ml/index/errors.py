"""Errors of a project's index; each message names the way out."""

from __future__ import annotations

from api_shared.errors import ApiWorkersError


class IndexProblem(ApiWorkersError):
    """The base of all errors of an index."""


class NoIndex(IndexProblem):
    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        super().__init__(f"project {project_id!r} has no index yet: run index_documents first")


class UnknownDocument(IndexProblem):
    def __init__(self, project_id: str, document_id: str) -> None:
        self.project_id = project_id
        self.document_id = document_id
        super().__init__(
            f"no document {document_id[:200]!r} in the index of project {project_id!r}: "
            f"index it, or ask with its text"
        )


class BrokenIndex(IndexProblem):
    """A file of the index is not what its manifest says, or was not written by this package."""

    def __init__(self, file: str, problem: str) -> None:
        self.file = file
        self.problem = problem
        super().__init__(
            f"the index is refused: {file}: {problem}; "
            f"rebuild it with index_documents and is_incremental=false"
        )


class OtherFeatures(IndexProblem):
    """The index was built with features that this version computes differently."""

    def __init__(self, project_id: str, found: str, expected: str) -> None:
        self.project_id = project_id
        self.found = found
        self.expected = expected
        super().__init__(
            f"the index of project {project_id!r} has features {found!r}, this worker makes "
            f"{expected!r}: rebuild it with index_documents and is_incremental=false"
        )


class IndexChanged(IndexProblem):
    """Another job changed the index in the meantime; nothing of this job was kept. Try again."""

    def __init__(self, project_id: str, generation: int) -> None:
        self.project_id = project_id
        self.generation = generation
        super().__init__(
            f"another job has changed the index of project {project_id!r} since generation "
            f"{generation}, from which this job began: nothing of it was kept; repeat it"
        )


class NoDocuments(IndexProblem):
    """An empty source would empty the index, which is hardly ever intended."""

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        super().__init__(
            f"no document was found for project {project_id!r}: the index is left as it was; "
            f"check documents_path"
        )
