"""Training, prediction and inference through kiq, with a real ML worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from api_shared.client.follow.handle import JobHandle
from api_shared.contracts.ml import (
    DELETE_MODEL,
    ML_INFERENCE,
    PREDICT_DOCUMENTS,
    TRAIN_MODEL,
    DeleteModelArgs,
    Hyperparameters,
    MlInferenceArgs,
    PredictDocumentsArgs,
    TrainModelArgs,
    TrainModelResult,
)
from api_shared.contracts.ml_index import INDEX_DOCUMENTS, IndexDocumentsArgs
from api_shared.errors import JobCancelled, JobFailed
from api_shared.job import Status
from api_shared.storage import open_storage
from api_shared.testing.servers import Services
from api_shared.testing.servers.process_identity import ProcessIdentity
from fixtures.held_swaps import reached, swaps_held
from fixtures.process_tree import descendants
from fixtures.texts import topic_texts
from fixtures.workers import Platform, platform_on, until
from workers_ml.models import ModelStore
from workers_ml.models.store import CURRENT

pytestmark = pytest.mark.asyncio(loop_scope="module")

ML = "workers_ml.main:broker"
WAIT_S = 120.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """With one worker that the tests of this module share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with platform_on(services, tmp_path_factory.mktemp("models"), monkeypatch) as opened:
            await opened.worker(ML)
            yield opened


@pytest.fixture
def project() -> str:
    """Of one test."""
    return f"p{uuid4().hex}"


def write_corpus(folder: Path, rows: list[tuple[str, str]]) -> tuple[str, str]:
    """The paths of documents and labels, from (label, text) pairs."""
    documents, labels = folder / "documents.jsonl", folder / "labels.tsv"
    numbered = list(enumerate(rows))
    documents.write_text(
        "".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, (_, text) in numbered)
    )
    labels.write_text("".join(f"d{n}\t{label}\n" for n, (label, _) in numbered))
    return str(documents), str(labels)


def model_in_force(project: str) -> str:
    """The key that a training swaps last."""
    return f"projects/{project}/models/{CURRENT}"


async def train(
    project: str, documents: str | None, labels: str, **more: object
) -> JobHandle[TrainModelResult]:
    given = {"project_id": project, "labels_path": labels, "documents_path": documents, **more}
    return await TRAIN_MODEL.kiq(TrainModelArgs.model_validate(given))


async def test_from_a_file_of_texts_to_predictions_and_back_to_nothing(
    platform: Platform, project: str, tmp_path: Path
) -> None:
    documents, labels = write_corpus(tmp_path, topic_texts(150))
    indexing = await INDEX_DOCUMENTS.kiq(
        IndexDocumentsArgs(project_id=project, documents_path=documents)
    )
    assert (await indexing.result(WAIT_S)).documents == 150

    training = await train(project, None, labels)
    stages = {
        event.progress.stage async for event in training.watch() if event.progress is not None
    }
    trained = await training.result(WAIT_S)
    assert trained.macro_f1 > 0.8
    assert stages
    assert stages <= {"read", "fit", "save"}, "of each the latest: any of them may be skipped"
    assert trained.model_id is not None
    storage = open_storage(platform.env["STORAGE_URL"])
    assert trained.score is not None
    assert storage.load(trained.score.confusion_png or "").startswith(b"\x89PNG")

    predicting = await PREDICT_DOCUMENTS.kiq(PredictDocumentsArgs(project_id=project))
    predicted = await predicting.result(WAIT_S)
    assert predicted.documents == 150
    assert predicted.model_id == trained.model_id
    lines = storage.load(predicted.predictions).decode().splitlines()
    assert {json.loads(line)["document_id"] for line in lines} == {f"d{n}" for n in range(150)}

    for model_id in (project, trained.model_id):
        asking = await ML_INFERENCE.kiq(
            MlInferenceArgs(model_id=model_id, input_data="rose tulip soil and water", top=2)
        )
        answer = await asking.result(WAIT_S)
        assert answer.model_id == trained.model_id
        assert answer.predictions[0][0].label == "garden"

    deleting = await DELETE_MODEL.kiq(DeleteModelArgs(project_id=project))
    assert (await deleting.result(WAIT_S)).deleted == 1
    asking = await ML_INFERENCE.kiq(MlInferenceArgs(model_id=project, input_data=("rose",)))
    with pytest.raises(JobFailed, match="run train_model first"):
        await asking.result(WAIT_S)


async def test_what_no_retry_can_fix_fails_at_once_and_says_what_to_do(
    platform: Platform, project: str, tmp_path: Path
) -> None:
    documents, labels = write_corpus(tmp_path, topic_texts(30))
    predicting = await PREDICT_DOCUMENTS.kiq(PredictDocumentsArgs(project_id=project))
    cases = [
        (await train(project, None, labels), "run index_documents first"),
        (await train(project, str(tmp_path / "none.csv"), labels), "no such file or folder"),
        (await train(project, documents, str(tmp_path / "none.tsv")), "no such file"),
        (await train(project, documents, labels, document_ids=["d0", "d3"]), "only 'garden'"),
        (predicting, "train_model first"),
    ]
    for handle, words in cases:
        with pytest.raises(JobFailed, match=words):
            await handle.result(WAIT_S)  # type: ignore[attr-defined]
        job = await platform.job(handle)  # type: ignore[arg-type]
        assert job.attempt == 1


async def test_a_cancelled_training_leaves_the_model_in_force(
    platform: Platform, project: str, tmp_path: Path
) -> None:
    documents, labels = write_corpus(tmp_path, topic_texts(60))
    first = await (await train(project, documents, labels)).result(WAIT_S)
    with swaps_held(platform.folder / "storage", model_in_force(project)):
        handle = await train(project, documents, labels)
        await reached(platform, handle.task_id, "save")
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(WAIT_S)
    await platform.status_of(handle, Status.CANCELLED)
    store = ModelStore(open_storage(platform.env["STORAGE_URL"]), project)
    assert first.model_id == f"{project}@{store.version_of(None)}"


@pytest.mark.usefixtures("platform")
async def test_a_named_data_set_is_scored_as_before() -> None:
    handle = await TRAIN_MODEL.kiq(
        TrainModelArgs(dataset_id="wine", hyperparameters=Hyperparameters(folds=2))
    )
    result = await handle.result(WAIT_S)
    assert (result.dataset_id, result.fits, result.model_id) == ("wine", 2, None)


async def test_a_training_whose_worker_is_killed_is_done_by_another_and_makes_one_model(
    platform: Platform, project: str, tmp_path: Path
) -> None:
    """The last one: it leaves another worker than the one that all others share."""
    (worker,) = platform.workers
    documents, labels = write_corpus(tmp_path, topic_texts(60))
    storage = open_storage(platform.env["STORAGE_URL"])
    with swaps_held(platform.folder / "storage", model_in_force(project)):
        handle = await train(project, documents, labels)
        await reached(platform, handle.task_id, "save")
        await until(lambda: storage.list(f"projects/{project}/models"), what="a part is written")
        processes = [ProcessIdentity.of(pid) for pid in descendants(worker.pid)]
        worker.kill()
        await until(lambda: not any(each and each.is_running() for each in processes))
    await platform.worker(ML)

    result = await handle.result(WAIT_S)

    assert (result.classes, result.documents) == (3, 60)
    job = await platform.job(handle)
    assert job.lost == 1
    store = ModelStore(storage, project)
    assert result.model_id == f"{project}@{store.version_of(None)}"
    versions = {key.split("/")[3] for key in storage.list(f"projects/{project}/models")}
    assert versions == {"current.json", store.version_of(None)}
