"""An index job that ends at any moment leaves the old index whole, or the new one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from api_shared.storage import Storage, open_storage
from api_shared.storage.protocol import LOAD_LIMIT_BYTES
from fixtures.indexes import answers, contents, files_in, index, random_texts
from fixtures.workers import TESTS
from index_killed import SIZE
from workers_ml.index import IndexFiles
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.reader import IndexReader

KILLS, MOST_KILLS = 30, 300
"""More than the first only until some job was finished, and some was killed while it wrote."""
LONGEST_S = 0.4
"""It grows with the kills: a slow machine gets its jobs done too."""


def hashes_of(seed: int, size: int = 40) -> dict[str, bytes]:
    return {name: content_hash(text) for name, text in random_texts(seed, size).items()}


def test_a_process_killed_at_any_moment_leaves_a_whole_index_and_loses_no_finished_job(
    tmp_path: Path,
) -> None:
    rng = Random(20261122)
    files = files_in(tmp_path)
    step, finished = 0, -1
    torn = 0
    for kill in range(MOST_KILLS):
        if kill >= KILLS and finished > 0 and torn:
            break
        process = subprocess.Popen(
            [sys.executable, str(TESTS / "index_killed.py"), str(tmp_path), str(step)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["begin", str(step)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, LONGEST_S * (1 + kill / KILLS)))
        assert process.poll() is None, "it ends only when it is killed"
        process.kill()
        for line in process.communicate()[0].splitlines():
            word, number = line.split()
            step = int(number)
            finished = step if word == "done" else finished
        if finished == step == 0 or finished >= 0:
            found = contents(files)
            assert found in (hashes_of(finished, SIZE), hashes_of(step, SIZE))
            torn += bool(files.list() - IndexReader.open(files).manifest.file_names)
    assert finished > 0, "jobs were finished too"
    assert torn, "some jobs were killed while they wrote"
    index(files, random_texts(step + 1, SIZE))
    anew = files_in(tmp_path, "anew")
    index(anew, random_texts(step + 1, SIZE), is_incremental=False)
    assert answers(files) == answers(anew)
    assert files.list() == IndexReader.open(files).manifest.file_names, "no garbage is left"


class Killed(BaseException):
    """The process is no more: nothing after it has an effect."""


class MortalStorage:
    """Does as many writes as it is told to, then nothing ever again; the last one may be done."""

    def __init__(self, storage: Storage, writes: int, is_last_done: bool) -> None:
        self._storage = storage
        self._writes = writes
        self._is_last_done = is_last_done

    @contextmanager
    def _write(self) -> Iterator[bool]:
        """Whether the write is to be done."""
        self._writes -= 1
        yield self._writes >= 0 or (self._writes == -1 and self._is_last_done)
        if self._writes < 0:
            raise Killed

    def save(self, key: str, data: bytes) -> None:
        with self._write() as is_done:
            if is_done:
                self._storage.save(key, data)

    def save_file(self, key: str, path: Path) -> None:
        with self._write() as is_done:
            if is_done:
                self._storage.save_file(key, path)

    def delete(self, key: str) -> None:
        with self._write() as is_done:
            if is_done:
                self._storage.delete(key)

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        digest = ""
        with self._write() as is_done:
            if is_done:
                digest = self._storage.swap(key, data, expected=expected)
        return digest

    def load(self, key: str, *, max_bytes: int = LOAD_LIMIT_BYTES) -> bytes:
        return self._storage.load(key, max_bytes=max_bytes)

    def local(self, key: str) -> contextlib.AbstractContextManager[Path]:
        return self._storage.local(key)

    def list(self, prefix: str) -> list[str]:
        return self._storage.list(prefix)


@pytest.mark.parametrize("is_incremental", [True, False])
@pytest.mark.parametrize("is_last_done", [True, False])
def test_a_job_that_ends_before_or_after_any_of_its_writes_leaves_a_whole_index(
    tmp_path: Path, is_incremental: bool, is_last_done: bool
) -> None:
    before, after = 3, 8
    outcomes = []
    for writes in range(100):
        folder = tmp_path / str(writes)
        files = files_in(folder)
        for seed in range(before + 1):
            index(files, random_texts(seed))
        storage = MortalStorage(open_storage(f"file:{folder}"), writes, is_last_done)
        try:
            index(
                IndexFiles(storage, "colours"), random_texts(after), is_incremental=is_incremental
            )
        except Killed:
            found = contents(files)
            assert found in (hashes_of(before), hashes_of(after))
            outcomes.append(found == hashes_of(after))
            index(files, random_texts(after))
            assert contents(files) == hashes_of(after)
            assert files.list() == IndexReader.open(files).manifest.file_names
        else:
            break
    assert len(outcomes) == writes > 3
    assert outcomes == sorted(outcomes), "old until one write, new from then on"
    assert set(outcomes) == {False, True}
