"""The manifest: which files are the index of a project. It is replaced in one atomic swap."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers_ml.index.errors import BrokenIndex

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024

FILE_NAME = r"[0-9a-f]{32}-[0-9]{1,6}\.(segment|dead)"
"""A name carries the run that wrote it, so that no two runs ever write the same file."""

FileName = Annotated[str, Field(pattern=rf"^{FILE_NAME}$", max_length=60)]
Count = Annotated[int, Field(ge=0, lt=2**48)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class IndexFile(_Part):
    """A file of the index, with the size and the hash it must have."""

    name: FileName
    size_bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, name: str, content: bytes) -> IndexFile:
        return cls(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def check(self, content: memoryview) -> None:
        """Raises `BrokenIndex` if the size or the hash differs."""
        if len(content) != self.size_bytes:
            problem = f"is {len(content)} bytes, its manifest says {self.size_bytes}"
            raise BrokenIndex(self.name, problem)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise BrokenIndex(self.name, "its SHA-256 is not the one in the manifest")


class SegmentEntry(_Part):
    """A segment and, if some of its documents are gone, the file that lists their rows."""

    file: IndexFile
    documents: Count
    postings: Count
    dead: IndexFile | None = None
    dead_documents: Count = 0

    @property
    def live_documents(self) -> int:
        return self.documents - self.dead_documents


class Manifest(_Part):
    """`generation` grows by one with each swap; `run` names the job's run that wrote it."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    generation: Count
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    features: Annotated[str, Field(max_length=500)]
    segments: Annotated[tuple[SegmentEntry, ...], Field(strict=False)] = ()

    @property
    def documents(self) -> int:
        return sum(segment.live_documents for segment in self.segments)

    @property
    def size_bytes(self) -> int:
        dead = sum(segment.dead.size_bytes for segment in self.segments if segment.dead)
        return sum(segment.file.size_bytes for segment in self.segments) + dead

    @property
    def file_names(self) -> frozenset[str]:
        names = {segment.file.name for segment in self.segments}
        return frozenset(names | {part.dead.name for part in self.segments if part.dead})

    def encode(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> Manifest:
        """Raises `BrokenIndex`."""
        if len(content) > MAX_MANIFEST_BYTES:
            raise BrokenIndex(MANIFEST, f"{len(content)} bytes are too many")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"]) or "it"
            raise BrokenIndex(MANIFEST, f"{path}: {first['msg']}") from None
