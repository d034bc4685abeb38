"""Indexing and similarity through kiq, with a real ML worker."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from api_shared.contracts.ml_index import (
    INDEX_DOCUMENTS,
    SIMILAR_DOCUMENTS,
    IndexDocumentsArgs,
    IndexDocumentsResult,
    SimilarDocumentsArgs,
    SimilarDocumentsResult,
)
from api_shared.errors import InvalidArguments, JobFailed
from api_shared.job import Status
from api_shared.testing.freezing import freeze
from fixtures.indexes import WORDS, contents, files_in
from fixtures.workers import LONG_S, Platform
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.reader import IndexReader

ML = "workers_ml.main:broker"


async def index(path: Path, **options: object) -> IndexDocumentsResult:
    args = {"project_id": "colours", "documents_path": str(path), **options}
    return await (await INDEX_DOCUMENTS.kiq(IndexDocumentsArgs.model_validate(args))).result(LONG_S)


async def similar(**query: object) -> SimilarDocumentsResult:
    args = SimilarDocumentsArgs.model_validate({"project_id": "colours", **query})
    return await (await SIMILAR_DOCUMENTS.kiq(args)).result(LONG_S)


def descendants(pid: int) -> set[int]:
    """Its children, their children and so on; jobs are in groups of their own."""
    children = defaultdict(set)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children[parent].add(int(stat.parent.name))
    found, asked = set(), [pid]
    while asked:
        below = children[asked.pop()]
        found |= below
        asked += below
    return found


def write_folder(folder: Path, texts: Mapping[str, str]) -> Path:
    for name, text in texts.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def write_lines(path: Path, texts: Mapping[str, str], *more: str) -> Path:
    lines = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    path.write_bytes(gzip.compress("\n".join([*lines, *more]).encode()))
    return path


async def test_a_folder_is_indexed_searched_changed_and_searched_again(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker(ML)
    folder = write_folder(
        tmp_path / "texts",
        {"sea/deep": "cold blue water", "sea/shore": "warm blue water", "fire": "warm red light"},
    )
    first = await index(folder)
    assert (first.added, first.documents, first.malformed) == (3, 3, 0)
    found = await similar(text="Blue, cold!", k=2)
    assert [each.document_id for each in found.similar] == ["sea/deep.txt", "sea/shore.txt"]
    found = await similar(document_id="fire.txt")
    assert [each.document_id for each in found.similar] == ["sea/shore.txt"]

    (folder / "fire.txt").write_text("cold blue flame")
    (folder / "sea/shore.txt").unlink()
    write_folder(folder, {"ice": "cold white light"})
    second = await index(folder, is_incremental=True)
    assert (second.added, second.changed, second.unchanged, second.deleted) == (1, 1, 1, 1)
    assert (second.written, second.documents) == (2, 3)
    found = await similar(text="warm blue shore")
    assert {each.document_id for each in found.similar} == {"sea/deep.txt", "fire.txt"}
    assert (found.documents, found.generation) == (3, second.generation)

    write_folder(tmp_path / "more", {"sand": "warm yellow"})
    third = await index(tmp_path / "more", is_incremental=True, keeps_missing=True)
    assert (third.added, third.deleted, third.documents) == (1, 0, 4)


async def test_malformed_rows_are_counted_and_too_many_fail_the_job_with_their_lines(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker(ML)
    texts = {f"d{number}": f"red {WORDS[number % 10]}" for number in range(200)}
    path = write_lines(tmp_path / "d.jsonl.gz", texts, "{", '{"id": "d7", "text": "again"}')
    result = await index(path)
    assert (result.added, result.malformed) == (200, 2)
    assert result.first_malformed[0].startswith("d.jsonl.gz, line 201: not JSON")
    handle = await INDEX_DOCUMENTS.kiq(
        IndexDocumentsArgs(
            project_id="colours", documents_path=str(path), max_malformed_share=0.001
        )
    )
    with pytest.raises(JobFailed, match=r"2 of 202 rows are malformed.*line 201") as failed:
        await handle.result(LONG_S)
    assert failed.value.reason == "discarded"
    assert (await similar(text="red")).generation == result.generation


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"project_id": "nothing", "text": "a word"}, "run index_documents first"),
        ({"document_id": "nobody"}, "no document 'nobody'"),
    ],
)
async def test_a_query_that_no_retry_can_answer_fails_at_once(
    platform: Platform, tmp_path: Path, query: dict[str, str], says: str
) -> None:
    await platform.worker(ML)
    await index(write_folder(tmp_path / "texts", {"a": "red"}))
    with pytest.raises(JobFailed, match=says):
        await similar(**query)


async def test_a_damaged_segment_is_refused_and_rebuilt(platform: Platform, tmp_path: Path) -> None:
    await platform.worker(ML)
    folder = write_folder(tmp_path / "texts", {"a": "red", "b": "red green"})
    await index(folder)
    (segment,) = (platform.folder / "storage/projects/colours/index").glob("*.segment")
    segment.write_bytes(segment.read_bytes()[:-8])
    with pytest.raises(JobFailed, match=r"the index is refused.*is_incremental=false"):
        await similar(text="red")
    with pytest.raises(JobFailed, match="the index is refused"):
        await index(folder, is_incremental=True)
    assert (await index(folder)).documents == 2
    assert len((await similar(text="red")).similar) == 2


@pytest.mark.parametrize(
    "args",
    [
        {"project_id": "../other", "text": "a"},
        {"project_id": ".hidden", "text": "a"},
        {"project_id": "a/b", "text": "a"},
        {"project_id": "a\n", "text": "a"},
        {"project_id": "", "text": "a"},
        {"project_id": "a"},
        {"project_id": "a", "text": "a", "document_id": "b"},
        {"project_id": "a", "text": "a", "k": 0},
    ],
)
def test_arguments_that_name_no_project_or_no_query_are_refused(args: dict[str, object]) -> None:
    with pytest.raises(InvalidArguments):
        SIMILAR_DOCUMENTS.parse([], args)


async def test_a_job_whose_process_is_killed_runs_again_and_the_old_index_answers_meanwhile(
    platform: Platform, tmp_path: Path
) -> None:
    worker = await platform.worker(ML)
    await index(write_folder(tmp_path / "texts", {"a": "red"}))
    rng = Random(1)
    texts = {f"d{number}": " ".join(rng.choices(WORDS, k=60)) for number in range(60_000)}
    path = write_lines(tmp_path / "many.jsonl.gz", texts)
    before = descendants(worker.pid)
    handle = await INDEX_DOCUMENTS.kiq(
        IndexDocumentsArgs(project_id="colours", documents_path=str(path))
    )
    seen = None
    async with asyncio.timeout(LONG_S):
        async for event in handle.watch():
            seen = event.progress
            if seen is not None and seen.stage == "index":
                break
    assert seen is not None
    assert seen.total == 60_000
    (job_process,) = descendants(worker.pid) - before
    freeze(job_process)  # so that it stays in the middle while the index answers
    assert [each.document_id for each in (await similar(text="red")).similar] == ["a.txt"]
    os.kill(job_process, signal.SIGKILL)
    job = await platform.status_of(handle, Status.COMPLETED)
    assert Status.RETRYING in [entry.status for entry in job.history]
    assert job.attempt == 1
    assert (await handle.result(10)).added == 60_000
    files = files_in(platform.folder / "storage")
    assert contents(files) == {name: content_hash(text) for name, text in texts.items()}
    manifest = IndexReader.open(files).manifest
    assert files.list() == manifest.file_names, "what the killed run had written is gone"


async def test_two_jobs_of_one_project_at_a_time_end_one_after_the_other(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker(ML)
    rng = Random(2)
    corpora = [
        {f"{name}{number}": " ".join(rng.choices(WORDS, k=40)) for number in range(20_000)}
        for name in ("a", "b")
    ]
    paths = [
        write_lines(tmp_path / f"{number}.jsonl.gz", texts) for number, texts in enumerate(corpora)
    ]
    results = await asyncio.gather(*(index(path) for path in paths))
    assert {result.generation for result in results} == {1, 2}
    last = max((0, 1), key=lambda number: results[number].generation)
    assert contents(files_in(platform.folder / "storage")).keys() == corpora[last].keys()
    assert (results[last].added, results[last].deleted) == (20_000, 20_000)
