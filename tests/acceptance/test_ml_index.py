"""Indexing and similarity through kiq, with a real ML worker."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio

from api_shared.client.follow.handle import JobHandle
from api_shared.contracts.ml_index import (
    INDEX_DOCUMENTS,
    SIMILAR_DOCUMENTS,
    IndexDocumentsArgs,
    IndexDocumentsResult,
    SimilarDocumentsArgs,
    SimilarDocumentsResult,
)
from api_shared.errors import JobFailed
from api_shared.job import Status
from api_shared.testing.servers import Services
from fixtures.held_swaps import reached, swaps_held
from fixtures.indexes import WORDS, contents, files_in
from fixtures.process_tree import descendants
from fixtures.workers import LONG_S, Platform, platform_on
from workers_ml.index import IndexFiles
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.format.manifest import MANIFEST
from workers_ml.index.reader import IndexReader

ML = "workers_ml.main:broker"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """With one worker that all tests of this module share; two of its jobs run at a time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with platform_on(services, tmp_path_factory.mktemp("index"), monkeypatch) as opened:
            await opened.worker(ML, ML_WORKER_COUNT="2")
            yield opened


@dataclass(frozen=True)
class Project:
    """A project of one test."""

    platform: Platform
    id: str

    @property
    def files(self) -> IndexFiles:
        return files_in(self.platform.folder / "storage", self.id)

    @property
    def manifest_key(self) -> str:
        return f"projects/{self.id}/index/{MANIFEST}"

    async def start(self, path: Path, **options: object) -> JobHandle[IndexDocumentsResult]:
        given = {"project_id": self.id, "documents_path": str(path), **options}
        return await INDEX_DOCUMENTS.kiq(IndexDocumentsArgs.model_validate(given))

    async def index(self, path: Path, **options: object) -> IndexDocumentsResult:
        return await (await self.start(path, **options)).result(LONG_S)

    async def similar(self, **query: object) -> SimilarDocumentsResult:
        args = SimilarDocumentsArgs.model_validate({"project_id": self.id, **query})
        return await (await SIMILAR_DOCUMENTS.kiq(args)).result(LONG_S)


@pytest.fixture
def project(platform: Platform) -> Project:
    return Project(platform, f"p{uuid4().hex}")


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
    project: Project, tmp_path: Path
) -> None:
    folder = write_folder(
        tmp_path / "texts",
        {"sea/deep": "cold blue water", "sea/shore": "warm blue water", "fire": "warm red light"},
    )
    first = await project.index(folder)
    assert (first.added, first.documents, first.malformed) == (3, 3, 0)
    found = await project.similar(text="Blue, cold!", k=2)
    assert [each.document_id for each in found.similar] == ["sea/deep.txt", "sea/shore.txt"]
    found = await project.similar(document_id="fire.txt")
    assert [each.document_id for each in found.similar] == ["sea/shore.txt"]

    (folder / "fire.txt").write_text("cold blue flame")
    (folder / "sea/shore.txt").unlink()
    write_folder(folder, {"ice": "cold white light"})
    second = await project.index(folder, is_incremental=True)
    assert (second.added, second.changed, second.unchanged, second.deleted) == (1, 1, 1, 1)
    assert (second.written, second.documents) == (2, 3)
    found = await project.similar(text="warm blue shore")
    assert {each.document_id for each in found.similar} == {"sea/deep.txt", "fire.txt"}
    assert (found.documents, found.generation) == (3, second.generation)

    write_folder(tmp_path / "more", {"sand": "warm yellow"})
    third = await project.index(tmp_path / "more", is_incremental=True, keeps_missing=True)
    assert (third.added, third.deleted, third.documents) == (1, 0, 4)


async def test_malformed_rows_are_counted_and_too_many_fail_the_job_with_their_lines(
    project: Project, tmp_path: Path
) -> None:
    texts = {f"d{number}": f"red {WORDS[number % 10]}" for number in range(200)}
    path = write_lines(tmp_path / "d.jsonl.gz", texts, "{", '{"id": "d7", "text": "again"}')
    result = await project.index(path)
    assert (result.added, result.malformed) == (200, 2)
    assert result.first_malformed[0].startswith("d.jsonl.gz, line 201: not JSON")
    handle = await project.start(path, max_malformed_share=0.001)
    with pytest.raises(JobFailed, match=r"2 of 202 rows are malformed.*line 201") as failed:
        await handle.result(LONG_S)
    assert failed.value.reason == "discarded"
    assert (await project.similar(text="red")).generation == result.generation


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"project_id": "nothing", "text": "a word"}, "run index_documents first"),
        ({"document_id": "nobody"}, "no document 'nobody'"),
    ],
)
async def test_a_query_that_no_retry_can_answer_fails_at_once(
    project: Project, tmp_path: Path, query: dict[str, str], says: str
) -> None:
    await project.index(write_folder(tmp_path / "texts", {"a": "red"}))
    with pytest.raises(JobFailed, match=says):
        await project.similar(**query)


async def test_a_damaged_segment_is_refused_and_rebuilt(project: Project, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "texts", {"a": "red", "b": "red green"})
    await project.index(folder)
    folder_of_index = project.platform.folder / "storage/projects" / project.id / "index"
    (segment,) = folder_of_index.glob("*.segment")
    segment.write_bytes(segment.read_bytes()[:-8])
    with pytest.raises(JobFailed, match=r"the index is refused.*is_incremental=false"):
        await project.similar(text="red")
    with pytest.raises(JobFailed, match="the index is refused"):
        await project.index(folder, is_incremental=True)
    assert (await project.index(folder)).documents == 2
    assert len((await project.similar(text="red")).similar) == 2


async def test_a_job_whose_process_is_killed_runs_again_and_the_old_index_answers_meanwhile(
    project: Project, tmp_path: Path
) -> None:
    platform = project.platform
    (worker,) = platform.workers
    await project.index(write_folder(tmp_path / "texts", {"a": "red"}))
    rng = Random(1)
    texts = {f"d{number}": " ".join(rng.choices(WORDS, k=60)) for number in range(2_000)}
    path = write_lines(tmp_path / "many.jsonl.gz", texts)
    before = descendants(worker.pid)
    with swaps_held(platform.folder / "storage", project.manifest_key):
        handle = await project.start(path)
        await reached(platform, handle.task_id, "swap")
        unnamed = project.files.list() - IndexReader.open(project.files).manifest.file_names
        assert unnamed, "it has written its files, and they are not in force"
        (job_process,) = descendants(worker.pid) - before
        similar = await project.similar(text="red")
        assert [each.document_id for each in similar.similar] == ["a.txt"]
        os.kill(job_process, signal.SIGKILL)
        await platform.attempted(handle, 1)
    job = await platform.status_of(handle, Status.COMPLETED)
    assert Status.RETRYING in [entry.status for entry in job.history]
    assert job.attempt == 1
    assert (await handle.result(10)).added == 2_000
    files = project.files
    assert contents(files) == {name: content_hash(text) for name, text in texts.items()}
    manifest = IndexReader.open(files).manifest
    assert files.list() == manifest.file_names, "what the killed run had written is gone"


async def test_two_jobs_of_one_project_at_a_time_end_one_after_the_other(
    project: Project, tmp_path: Path
) -> None:
    platform = project.platform
    rng = Random(2)
    corpora = [
        {f"{name}{number}": " ".join(rng.choices(WORDS, k=40)) for number in range(1_000)}
        for name in ("a", "b")
    ]
    paths = [
        write_lines(tmp_path / f"{number}.jsonl.gz", texts) for number, texts in enumerate(corpora)
    ]
    with swaps_held(platform.folder / "storage", project.manifest_key):
        handles = [await project.start(path) for path in paths]
        for handle in handles:
            await reached(platform, handle.task_id, "swap")
    results = [await handle.result(LONG_S) for handle in handles]
    assert {result.generation for result in results} == {1, 2}
    last = max((0, 1), key=lambda number: results[number].generation)
    assert contents(project.files).keys() == corpora[last].keys()
    assert (results[last].added, results[last].deleted) == (1_000, 1_000)
    attempts = [(await platform.job(handle)).attempt for handle in handles]
    assert sorted(attempts) == [0, 1], "the second one to swap begins again"
    assert attempts[last] == 1
