"""The task `process_data`: one pass over the file, and a journal that survives a crash."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_shared.contracts.general import ProcessDataArgs, ProcessDataResult
from workers_general.tasks.process_data import process_data

LINES = [f"line {number} of the file \u00e9\n" if number % 7 else "\n" for number in range(5_000)]
TEXT = "".join(LINES).encode()
CHUNK_LINES = 100


class Crash(BaseException):
    """The end of a worker: no task can catch it."""


class Journal:
    """A job's context whose worker ends after `crash_after` records; the journal outlives it."""

    def __init__(self) -> None:
        self.recorded: dict[str, str] = {}
        self.records = 0
        self.crash_after: int | None = None
        self.progressed: list[tuple[float, float | None]] = []

    def recall(self, key: str) -> Any:
        return json.loads(self.recorded[key]) if key in self.recorded else None

    async def record(self, key: str, value: Any) -> None:
        self.recorded[key] = json.dumps(value)
        self.records += 1
        if self.records == self.crash_after:
            raise Crash

    def progress(self, done: float, total: float | None = None, **_: str) -> None:
        self.progressed.append((done, total))


class CountedFile(io.FileIO):
    """A file that counts the bytes that are read from it."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        CountedFile.read_bytes += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        size = super().readinto(buffer) or 0
        CountedFile.read_bytes += size
        return size


@pytest.fixture(params=["data.txt", "data.txt.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file: Path = tmp_path / request.param
    file.write_bytes(gzip.compress(TEXT) if file.suffix == ".gz" else TEXT)
    return file


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes of compressed files were read since the last call."""

    def opened(path: Path) -> gzip.GzipFile:
        counted = CountedFile(path)
        file = gzip.GzipFile(fileobj=counted)
        file.myfileobj = counted  # it is closed with the GzipFile
        return file

    monkeypatch.setattr(gzip, "open", opened)
    CountedFile.read_bytes = 0

    def since_last() -> int:
        count, CountedFile.read_bytes = CountedFile.read_bytes, 0
        return count

    return since_last


async def run(path: Path, journal: Any) -> ProcessDataResult:
    args = ProcessDataArgs.model_validate(
        {"user_id": "ada", "options": {"source": str(path), "chunk_lines": CHUNK_LINES}}
    )
    return await process_data.function(args, journal)


def digest_of_chunks() -> str:
    digest = b""
    for start in range(0, len(LINES), CHUNK_LINES):
        chunk = "".join(LINES[start : start + CHUNK_LINES]).encode()
        digest = hashlib.sha256(digest + chunk).digest()
    return digest.hex()


async def test_every_line_is_counted(path: Path) -> None:
    result = await run(path, Journal())
    assert (result.lines, result.chunks, result.chunks_recalled) == (5_000, 50, 0)
    assert result.blank_lines == LINES.count("\n")
    assert result.words == sum(len(line.split()) for line in LINES)
    assert result.longest_line == max(len(line) - 1 for line in LINES)
    assert result.size_bytes == len(TEXT)
    assert result.digest == digest_of_chunks()


async def test_progress_has_the_total_where_the_file_is_not_compressed(path: Path) -> None:
    journal = Journal()
    await run(path, journal)
    total = None if path.suffix == ".gz" else len(TEXT)
    assert journal.progressed[-1] == (len(TEXT), total)


async def test_a_compressed_file_is_decompressed_once(
    tmp_path: Path, read_bytes: Callable[[], int]
) -> None:
    path = tmp_path / "data.txt.gz"
    path.write_bytes(gzip.compress(TEXT))
    await run(path, Journal())
    assert read_bytes() == path.stat().st_size


async def test_a_run_after_a_crash_continues_after_the_last_record(path: Path) -> None:
    whole = await run(path, Journal())
    journal = Journal()
    journal.crash_after = 20
    with pytest.raises(Crash):
        await run(path, journal)
    result = await run(path, journal)
    assert result.chunks_recalled == 20
    assert journal.records == 50, "no chunk is counted again"
    assert result.model_copy(update={"chunks_recalled": 0}) == whole


async def test_a_run_after_a_crash_decompresses_the_file_once(
    tmp_path: Path, read_bytes: Callable[[], int]
) -> None:
    path = tmp_path / "data.txt.gz"
    path.write_bytes(gzip.compress(TEXT))
    journal = Journal()
    journal.crash_after = 20
    with pytest.raises(Crash):
        await run(path, journal)
    read_bytes()
    await run(path, journal)
    assert read_bytes() == path.stat().st_size


async def test_a_file_that_is_not_utf_8_fails(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"good\n\xff\n")
    with pytest.raises(UnicodeDecodeError):
        await run(path, Journal())
