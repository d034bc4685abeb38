"""The journal of a job's model calls: the answers it has paid for, large ones in the storage."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import structlog

from api_shared.errors import InvalidOption
from api_shared.storage import NotStored, StorageError, digest_of
from api_shared.worker.context import JobContext
from workers_general.llm.protocol import Stored
from workers_general.storage import storage_at

log = structlog.get_logger()

MAX_STEP = 100
INLINE_BYTES = 4096
"""A longer answer is stored, and the journal refers to it: a job and its journal have 16 MB."""


class CallJournal:
    """The answers of one job. Raises `StorageError`s, and what the job's journal raises."""

    def __init__(self, job: JobContext, storage_url: str) -> None:
        self._job = job
        self._storage_url = storage_url

    async def recall(self, key: str) -> Any:
        """The answer that was recorded as `key`; None if there is none, or if its file is gone."""
        kept = self._job.recall(key)
        if kept is None or "answer" in kept:
            return None if kept is None else kept["answer"]
        try:
            data = await asyncio.to_thread(storage_at(self._storage_url).load, kept["stored"])
        except NotStored:
            data = b""
        if digest_of(data) != kept["sha256"]:
            log.warning("llm.answer_gone", stored=kept["stored"])
            return None
        return json.loads(data)

    async def record(self, key: str, answer: Any, usage: Mapping[str, int]) -> None:
        """After this, `recall` finds the answer in every run of the job; its usage counts once."""
        text = json.dumps(answer, allow_nan=False, separators=(",", ":"))
        kept: dict[str, Any] = {"answer": answer}
        if len(text) > INLINE_BYTES:
            try:
                stored = await self.store_file("answer", "json", "application/json", text.encode())
                kept = {"stored": stored.key, "sha256": stored.sha256}
            except StorageError as error:  # the answer is paid for: the journal keeps it
                log.warning("llm.answer_not_stored", error=str(error))
        await self._job.record(key, kept, usage=usage)

    async def store_file(self, name: str, suffix: str, content_type: str, data: bytes) -> Stored:
        """
        Store a file of this job, named by its content: a run that has lost its claim cannot replace
        a file to which another run refers.
        """
        digest = digest_of(data)
        path = f"jobs/{self._job.id}/{name}-{digest[:32]}.{suffix}"
        await asyncio.to_thread(storage_at(self._storage_url).save, path, data)
        return Stored(path, content_type, digest, len(data))


def call_key(step: str, request: Mapping[str, Any]) -> str:
    """The journal's key of a call: its step and its request. Raises `InvalidOption`."""
    if not (0 < len(step) <= MAX_STEP and step.isprintable()):
        rule = f"1 to {MAX_STEP} printable characters, one name for each call of a job"
        raise InvalidOption("step", step[:MAX_STEP], rule)
    text = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return f"llm:{step}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def derive_seed(name: str, number: int) -> int:
    """A seed that is the same in each run of a job."""
    digest = hashlib.sha256(f"{name}:{number}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
