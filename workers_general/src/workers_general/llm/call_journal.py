"""The answers a job has paid for: in its journal, and large ones in the storage."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import structlog

from api_shared.errors import InvalidOption
from api_shared.storage import NotStored, Storage, StorageError, digest_of, open_storage
from api_shared.worker.context import JobContext
from workers_general.llm.protocol import Stored

log = structlog.get_logger()

MAX_STEP = 100
INLINE_BYTES = 4096
"""A longer answer is stored, and the journal refers to it: 16 MB hold a job with its journal."""


class Answers:
    """Raises `StorageError`s; what the journal raises passes."""

    def __init__(self, job: JobContext, storage_url: str) -> None:
        self._job = job
        self._storage_url = storage_url

    async def recall(self, key: str) -> Any:
        """What was kept under `key`; None if nothing was, or if its file is gone."""
        kept = self._job.recall(key)
        if kept is None or "answer" in kept:
            return None if kept is None else kept["answer"]
        try:
            data = await asyncio.to_thread(self._storage.load, kept["stored"])
        except NotStored:
            data = b""
        if digest_of(data) != kept["sha256"]:
            log.warning("llm.answer_gone", stored=kept["stored"])
            return None
        return json.loads(data)

    async def keep(self, key: str, answer: Any, usage: Mapping[str, int]) -> None:
        """When this returns, `recall` finds it in any run of the job, and its usage counts once."""
        text = json.dumps(answer, allow_nan=False, separators=(",", ":"))
        kept: dict[str, Any] = {"answer": answer}
        if len(text) > INLINE_BYTES:
            try:
                stored = await self.store("answer", "json", "application/json", text.encode())
                kept = {"stored": stored.key, "sha256": stored.sha256}
            except StorageError as error:  # it is paid for: the journal takes it
                log.warning("llm.answer_not_stored", error=str(error))
        await self._job.record(key, kept, usage=usage)

    async def store(self, name: str, suffix: str, content_type: str, data: bytes) -> Stored:
        """
        A file of this job's, named by what it holds: a run that has lost its claim can put nothing
        in the place of what another run refers to.
        """
        digest = digest_of(data)
        path = f"jobs/{self._job.id}/{name}-{digest[:32]}.{suffix}"
        await asyncio.to_thread(self._storage.save, path, data)
        return Stored(path, content_type, digest, len(data))

    @cached_property
    def _storage(self) -> Storage:
        return open_storage(self._storage_url)


def key_of(step: str, request: Mapping[str, Any]) -> str:
    """Where an answer is kept: by its step and what was asked. Raises `InvalidOption`."""
    if not (0 < len(step) <= MAX_STEP and step.isprintable()):
        wanted = f"1 to {MAX_STEP} printable characters, one name for each call of a job"
        raise InvalidOption("step", step[:MAX_STEP], wanted)
    text = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return f"llm:{step}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def seed_of(name: str, number: int) -> int:
    """A seed that is the same in each run of a job."""
    digest = hashlib.sha256(f"{name}:{number}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
