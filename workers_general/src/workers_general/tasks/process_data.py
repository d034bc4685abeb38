"""Work through a text file in chunks, each counted once whatever dies on the way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.general import PROCESS_DATA, ProcessDataArgs, ProcessDataResult
from api_shared.worker.context import JobContext

TALLY = "tally"
"""The journal's key for what has been counted so far."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the first `chunks` chunks hold; the next one starts at byte `size_bytes`."""

    lines: int = 0
    blank_lines: int = 0
    words: int = 0
    longest_line: int = 0
    size_bytes: int = 0
    chunks: int = 0
    digest: str = ""


@broker.task(PROCESS_DATA)
async def process_data(
    args: ProcessDataArgs, job: JobContext = TaskiqDepends()
) -> ProcessDataResult:
    """
    A chunk is recorded in the journal before the next begins: a run after a crash goes on behind
    the last one recorded.
    """
    options, path = args.options, Path(args.options.source)
    tally = Tally(**(job.recall(TALLY) or {}))
    recalled = tally.chunks
    total_bytes = await asyncio.to_thread(uncompressed_bytes, path)
    while True:
        counted = await asyncio.to_thread(count_chunk, path, tally, options.chunk_lines)
        if counted == tally:
            break
        tally = counted
        await job.record(TALLY, asdict(tally))
        job.progress(tally.size_bytes, total_bytes, stage="count", message=f"{tally.lines:,} lines")
        await asyncio.sleep(options.pause_s)
    return ProcessDataResult(user_id=args.user_id, chunks_recalled=recalled, **asdict(tally))


def uncompressed_bytes(path: Path) -> int | None:
    """The file's size in bytes; None where only reading it all could tell."""
    return None if path.suffix == ".gz" else path.stat().st_size


def count_chunk(path: Path, tally: Tally, chunk_lines: int) -> Tally:
    """
    The tally after one more chunk; the same one at the end of the file.

    Lines end in `\\n` and are UTF-8, gzip by the ending `.gz`. Raises `OSError` and
    `UnicodeDecodeError`.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        file.seek(tally.size_bytes)
        raw_lines = list(islice(file, chunk_lines))
    if not raw_lines:
        return tally
    chunk = b"".join(raw_lines)
    lines = [line.decode() for line in raw_lines]
    return replace(
        tally,
        lines=tally.lines + len(lines),
        blank_lines=tally.blank_lines + sum(not line.strip() for line in lines),
        words=tally.words + sum(len(line.split()) for line in lines),
        longest_line=max(tally.longest_line, *(len(line.rstrip("\n")) for line in lines)),
        size_bytes=tally.size_bytes + len(chunk),
        chunks=tally.chunks + 1,
        digest=hashlib.sha256(bytes.fromhex(tally.digest) + chunk).hexdigest(),
    )
