"""The index after adding, changing and deleting, against one that is built rebuilt."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_shared.storage.folder import FolderStorage
from fixtures.indexes import (
    TINY,
    WORDS,
    answers,
    contents,
    documents,
    files_in,
    index,
    random_texts,
)
from workers_ml.documents import Document
from workers_ml.index import (
    BrokenIndex,
    IndexChanged,
    IndexFiles,
    NoDocuments,
    NoIndex,
    OtherFeatures,
    SimilarityIndex,
    UnknownDocument,
    update_index,
)
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.format.manifest import Manifest
from workers_ml.index.merge import Sizes
from workers_ml.index.reader import IndexReader

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
corpora = st.dictionaries(st.sampled_from([f"d{n}" for n in range(15)]), texts, min_size=1)
runs = st.tuples(corpora, st.sampled_from(["rebuilt", "in line", "on top"]))


@given(st.lists(runs, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_an_index_kept_up_to_date_answers_as_a_rebuilt_one(
    history: list[tuple[dict[str, str], str]],
) -> None:
    expected: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        kept = files_in(Path(folder), "kept")
        for corpus, how in history:
            before = dict(expected)
            expected = before | corpus if how == "on top" else dict(corpus)
            report = index(
                kept, corpus, is_incremental=how != "rebuilt", keeps_missing=how == "on top"
            )
            common = before.keys() & corpus.keys()
            assert report.added == len(corpus.keys() - before.keys())
            assert report.changed == sum(before[name] != corpus[name] for name in common)
            assert report.unchanged == len(common) - report.changed
            assert report.deleted == len(before.keys() - expected.keys())
            assert report.documents == len(expected)
            hashes = {name: content_hash(text) for name, text in expected.items()}
            assert contents(kept) == hashes
        rebuilt = files_in(Path(folder), "rebuilt")
        index(rebuilt, expected, is_incremental=False, sizes=Sizes())
        assert answers(kept) == answers(rebuilt)
        assert kept.list() == IndexReader.open(kept).manifest.file_names


def test_what_has_not_changed_is_not_computed_again(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    first = {f"d{n}": f"red {WORDS[n]}" for n in range(5)}
    assert index(files, first).written == 5
    again = index(files, first)
    assert (again.written, again.unchanged, again.generation) == (0, 5, 1)
    changed = index(files, first | {"d0": "loud"})
    assert (changed.written, changed.changed, changed.generation) == (1, 1, 2)
    rebuilt = index(files, first, is_incremental=False)
    assert (rebuilt.written, rebuilt.unchanged, rebuilt.segments) == (5, 4, 1)


def test_many_small_segments_become_few(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    texts: dict[str, str] = {}
    most = 0
    for number in range(40):
        texts[f"d{number}"] = f"red {WORDS[number % 10]}"
        report = index(files, texts)
        assert report.written == 1
        most = max(most, report.segments)
    assert most <= 40 // 3 + TINY.small_segments + 2
    assert len(contents(files)) == 40


def test_dead_documents_are_written_out_in_time(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    texts = {f"d{number}": "red green" for number in range(6)}
    index(files, texts)
    index(files, {"d5": "red green"})
    (entry,) = IndexReader.open(files).manifest.segments
    assert (entry.documents, entry.dead) == (1, None)
    assert len(files.list()) == 1


def test_equal_scores_are_ordered_by_id_and_k_cuts_among_them(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    names = [f"d{number}" for number in (7, 3, 9, 1, 5, 2, 8)]
    index(files, dict.fromkeys(names, "red green") | {"best": "red red red"})
    found = SimilarityIndex.open(files).similar_to_text("red", 4)
    assert [each.document_id for each in found] == ["best", "d1", "d2", "d3"]
    assert len({each.score for each in found}) == 2


def test_a_document_is_not_similar_to_itself(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    index(files, {"a": "red green", "b": "red blue", "c": "loud"})
    searched = SimilarityIndex.open(files)
    assert [each.document_id for each in searched.similar_to_document("a", 5)] == ["b"]
    assert searched.similar_to_document("c", 5) == []
    assert searched.similar_to_text("nothing of this", 5) == []
    with pytest.raises(UnknownDocument, match=r"'d'.*index it, or ask with its text"):
        searched.similar_to_document("d", 5)


def test_there_is_no_index_before_the_first_job_and_none_of_nothing(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    with pytest.raises(NoIndex, match="run index_documents first"):
        SimilarityIndex.open(files)
    index(files, {"a": "red"})
    for is_incremental in (True, False):
        with pytest.raises(NoDocuments, match="left as it was"):
            index(files, {}, is_incremental=is_incremental)
    assert contents(files) == {"a": content_hash("red")}


def test_a_source_that_fails_in_the_middle_leaves_index_and_folder_as_they_were(
    tmp_path: Path,
) -> None:
    files = files_in(tmp_path)
    index(files, random_texts(1))
    before, listed = contents(files), files.list()

    def failing() -> Iterator[Document]:
        yield from documents(random_texts(2))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        update_index(files, failing(), is_incremental=True, sizes=TINY)
    assert (contents(files), files.list()) == (before, listed)


def test_of_two_jobs_at_a_time_the_later_swap_is_refused_and_nothing_is_mixed(
    tmp_path: Path,
) -> None:
    files = files_in(tmp_path)
    index(files, random_texts(1))

    def overtaken() -> Iterator[Document]:
        yield from documents(random_texts(2))
        index(files, random_texts(3))

    for is_incremental in (True, False):
        with pytest.raises(IndexChanged, match="nothing of it was kept; repeat it"):
            update_index(files, overtaken(), is_incremental=is_incremental, sizes=TINY)
        assert contents(files).keys() == random_texts(3).keys()
        assert files.list() == IndexReader.open(files).manifest.file_names
        index(files, random_texts(1))


def test_a_job_whose_segments_another_one_has_replaced_says_that_it_was_overtaken(
    tmp_path: Path,
) -> None:
    files = files_in(tmp_path)
    for name in ("a", "b"):
        index(files, {name: "red"}, keeps_missing=True)

    def overtaken() -> Iterator[Document]:
        yield Document("c", "blue")
        index(files, {"d": "red"}, is_incremental=False)

    with pytest.raises(IndexChanged):
        update_index(
            files, overtaken(), is_incremental=True, keeps_missing=True, sizes=TINY
        )  # it would merge its segment with those of a and b
    assert contents(files).keys() == {"d"}
    assert files.list() == IndexReader.open(files).manifest.file_names


def test_a_job_that_begins_right_after_the_swap_of_another_keeps_its_segments(
    tmp_path: Path,
) -> None:
    """The first removes what it takes for garbage when the second has written but not swapped."""
    is_written, may_swap = threading.Event(), threading.Event()

    class Second(FolderStorage):
        def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
            is_written.set()
            assert may_swap.wait(30)
            return super().swap(key, data, expected=expected)

    second = threading.Thread(
        target=index, args=(IndexFiles(Second(tmp_path), "colours"), {"b": "red", "c": "blue"})
    )

    class First(FolderStorage):
        def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
            digest = super().swap(key, data, expected=expected)
            second.start()
            assert is_written.wait(30)
            return digest

    index(files_in(tmp_path), {"a": "green"})
    index(IndexFiles(First(tmp_path), "colours"), {"a": "red"})
    may_swap.set()
    second.join()
    assert contents(files_in(tmp_path)).keys() == {"b", "c"}


def test_jobs_side_by_side_each_win_or_lose_whole(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    known = {frozenset(random_texts(seed).items()): seed for seed in range(24)}
    problems: list[BaseException] = []
    wins: list[int] = []

    def work(seeds: range) -> None:
        for seed in seeds:
            try:
                index(files, random_texts(seed), is_incremental=seed % 2 == 0)
                wins.append(seed)
            except IndexChanged:
                continue
            except BaseException as error:
                problems.append(error)

    hashes = [{name: content_hash(text) for name, text in dict(corpus).items()} for corpus in known]
    threads = [threading.Thread(target=work, args=(range(n, 24, 4),)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(0.01)
        if wins:
            assert contents(files) in hashes
    assert not problems
    assert IndexReader.open(files).manifest.generation <= len(wins)
    index(files, random_texts(99))
    assert files.list() == IndexReader.open(files).manifest.file_names


def test_features_of_another_version_are_refused_until_the_index_is_rebuilt(
    tmp_path: Path,
) -> None:
    files = files_in(tmp_path)
    index(files, {"a": "red"})
    content, digest = files.load_manifest()
    other = Manifest.decode(content).model_copy(update={"features": "letters/9", "generation": 2})
    files.swap_manifest(other, expected=digest)
    with pytest.raises(OtherFeatures, match="letters/9"):
        SimilarityIndex.open(files)
    with pytest.raises(OtherFeatures, match="is_incremental=false"):
        index(files, {"a": "red"})
    index(files, {"a": "red"}, is_incremental=False)
    assert answers(files)["red"][0][0] == "a"


def test_a_broken_index_is_replaced_by_rebuilding_it(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    index(files, {"a": "red"})
    (tmp_path / "projects/colours/index/manifest.json").write_bytes(b"{")
    with pytest.raises(BrokenIndex):
        index(files, {"a": "red"})
    assert index(files, {"a": "red"}, is_incremental=False).added == 1
    assert contents(files).keys() == {"a"}
    assert len(files.list()) == 1


def test_an_opened_index_answers_on_while_jobs_replace_it(tmp_path: Path) -> None:
    files: IndexFiles = files_in(tmp_path)
    index(files, random_texts(1))
    searched, before = SimilarityIndex.open(files), answers(files)
    index(files, {"only": "red"}, is_incremental=False)
    found = [(each.document_id, each.score) for each in searched.similar_to_text("red", 5)]
    assert found == before["red"]


def test_an_index_that_is_replaced_while_it_is_opened_is_opened_as_it_is_now(
    tmp_path: Path,
) -> None:
    index(files_in(tmp_path), {"a": "red"})

    class Overtaken(FolderStorage):
        is_overtaken = False

        @contextmanager
        def local(self, key: str) -> Iterator[Path]:
            if not self.is_overtaken:
                self.is_overtaken = True
                index(files_in(tmp_path), {"b": "red"}, is_incremental=False)
            with super().local(key) as path:
                yield path

    assert contents(IndexFiles(Overtaken(tmp_path), "colours")).keys() == {"b"}
