"""What can be wrong with a project's index; each message names the way out."""

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
    """A file of the index is not what its manifest says, or no file of ours at all."""

    def __init__(self, file: str, problem: str) -> None:
        self.file = file
        self.problem = problem
        super().__init__(
            f"the index is refused: {file}: {problem}; "
            f"build it anew with index_documents and is_incremental=false"
        )


class OtherFeatures(IndexProblem):
    """The index was built with features that this version computes differently."""

    def __init__(self, project_id: str, found: str, wanted: str) -> None:
        self.project_id = project_id
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"the index of project {project_id!r} has features {found!r}, this worker makes "
            f"{wanted!r}: build it anew with index_documents and is_incremental=false"
        )


class IndexChanged(IndexProblem):
    """Another job has changed the index meanwhile; nothing of this one was kept. Try again."""

    def __init__(self, project_id: str, generation: int) -> None:
        self.project_id = project_id
        self.generation = generation
        super().__init__(
            f"another job has changed the index of project {project_id!r} since generation "
            f"{generation}, which this one began from: nothing of it was kept, it can be repeated"
        )


class NoDocuments(IndexProblem):
    """An empty source would empty the index: that is hardly ever meant."""

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        super().__init__(
            f"no document was found for project {project_id!r}: the index is left as it was; "
            f"check documents_path"
        )
