"""Opened indexes are kept, replaced when a job has changed them, and bounded."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api_shared.storage import open_storage
from fixtures.indexes import files_in, index
from workers_ml.index import IndexFiles, NoIndex, SimilarityIndex
from workers_ml.index.cache import IndexCache
from workers_ml.index.estimate import estimate_documents
from workers_ml.index.merge import Sizes


def test_an_index_is_opened_once_until_a_job_changes_it(tmp_path: Path) -> None:
    cache = IndexCache(open_storage(f"file:{tmp_path}"))
    with pytest.raises(NoIndex):
        cache.get("colours")
    files = files_in(tmp_path)
    index(files, {"a": "red"})
    first = cache.get("colours")
    assert cache.get("colours") is first
    index(files, {"a": "red", "b": "red"})
    second = cache.get("colours")
    assert (first.generation, second.generation) == (1, 2)
    assert len(first.similar_to_text("red", 5)) == 1
    assert len(second.similar_to_text("red", 5)) == 2


def test_many_threads_open_an_index_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index(files_in(tmp_path), {"a": "red"})
    cache = IndexCache(open_storage(f"file:{tmp_path}"))
    opened: list[str] = []
    real = SimilarityIndex.open

    def counted(files: IndexFiles) -> SimilarityIndex:
        opened.append(files.project_id)
        return real(files)

    monkeypatch.setattr(SimilarityIndex, "open", counted)
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: id(cache.get("colours")), range(40)))
    assert (len(found), opened) == (1, ["colours"])


def test_the_index_used_longest_ago_makes_room(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        index(files_in(tmp_path, name), {"d": "red"})
    storage = open_storage(f"file:{tmp_path}")
    size = IndexCache(storage).get("a").size_bytes
    cache = IndexCache(storage, max_bytes=2 * size)
    kept = {name: cache.get(name) for name in ("a", "b", "a", "c")}
    assert cache.get("a") is kept["a"]
    assert cache.get("c") is kept["c"]
    assert cache.get("b") is not kept["b"]
    tiny = IndexCache(storage, max_bytes=1)
    assert tiny.get("a") is tiny.get("a")


def test_a_file_that_is_cut_under_an_opened_index_does_not_end_the_process(tmp_path: Path) -> None:
    index(files_in(tmp_path), {f"d{n}": f"red word{n}" for n in range(2000)}, sizes=Sizes())
    cache = IndexCache(open_storage(f"file:{tmp_path}"))
    cache.get("colours")
    (segment,) = tmp_path.rglob("*.segment")
    segment.write_bytes(b"")
    found = cache.get("colours").similar_to_document("d1999", 3)
    assert [each.document_id for each in found] == ["d0", "d1", "d10"]


def test_documents_are_counted_where_that_is_cheap(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a\nb\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b"{}\n{}\n{}"))
    (folder / ".hidden.csv").touch()
    assert estimate_documents(folder) == 4
    assert estimate_documents(folder / "b.jsonl.gz") == 3
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 99)[:-9])
    assert estimate_documents(folder) is None
    assert estimate_documents(tmp_path / "nothing.jsonl") is None
    assert estimate_documents(tmp_path / "table.csv") is None
