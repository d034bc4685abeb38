"""The task `process_data`: it counts the lines of a text file in chunks, with a journal."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.general import PROCESS_DATA, ProcessDataArgs, ProcessDataResult
from api_shared.worker.context import JobContext

COUNTS = "tally"
"""The journal's key of the counts so far."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of the first `chunks` chunks; the next chunk starts at byte `size_bytes`."""

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
    The file is read once, forward. Each chunk is recorded in the journal before the next one
    begins: a run after a crash continues after the last recorded chunk.
    """
    options, path = args.options, Path(args.options.source)
    counts = Counts(**(job.recall(COUNTS) or {}))
    recalled = counts.chunks
    total_bytes = await asyncio.to_thread(uncompressed_bytes, path)
    with await asyncio.to_thread(open_at, path, counts.size_bytes) as file:
        while True:
            counted = await asyncio.to_thread(count_chunk, file, counts, options.chunk_lines)
            if counted == counts:
                break
            counts = counted
            await job.record(COUNTS, asdict(counts))
            message = f"{counts.lines:,} lines"
            job.progress(counts.size_bytes, total_bytes, stage="count", message=message)
            await asyncio.sleep(options.pause_s)
    return ProcessDataResult(user_id=args.user_id, chunks_recalled=recalled, **asdict(counts))


def uncompressed_bytes(path: Path) -> int | None:
    """The size of the file in bytes; None if it is compressed."""
    return None if path.suffix == ".gz" else path.stat().st_size


def open_at(path: Path, offset_bytes: int) -> BinaryIO:
    """
    The opened file at an offset of its uncompressed bytes.

    A compressed file is read up to there, in bounded memory. Raises `OSError`.
    """
    file = open_bytes(path)
    try:
        file.seek(offset_bytes)
    except BaseException:
        file.close()
        raise
    return file


def open_bytes(path: Path) -> BinaryIO:
    """The opened file, decompressed if its name ends in `.gz`. Raises `OSError`."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def count_chunk(file: BinaryIO, counts: Counts, chunk_lines: int) -> Counts:
    """
    The counts after the next `chunk_lines` lines of `file`; equal to `counts` at its end.

    Lines end in `\\n` and are UTF-8. Raises `OSError` and `UnicodeDecodeError`.
    """
    lines = blank_lines = words = longest_line = size_bytes = 0
    digest = hashlib.sha256(bytes.fromhex(counts.digest))
    for raw_line in islice(file, chunk_lines):
        digest.update(raw_line)
        line = raw_line.decode()
        lines += 1
        blank_lines += not line.strip()
        words += len(line.split())
        longest_line = max(longest_line, len(line.rstrip("\n")))
        size_bytes += len(raw_line)
    if not lines:
        return counts
    return Counts(
        lines=counts.lines + lines,
        blank_lines=counts.blank_lines + blank_lines,
        words=counts.words + words,
        longest_line=max(counts.longest_line, longest_line),
        size_bytes=counts.size_bytes + size_bytes,
        chunks=counts.chunks + 1,
        digest=digest.hexdigest(),
    )
