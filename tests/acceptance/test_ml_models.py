"""Training, prediction and inference through kiq, with a real ML worker."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

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
from fixtures.texts import topic_texts
from fixtures.workers import Platform
from workers_ml.models import ModelStore

ML = "workers_ml.main:broker"
WAIT_S = 120.0


def write_corpus(folder: Path, rows: list[tuple[str, str]]) -> tuple[str, str]:
    """The paths of documents and labels, from (label, text) pairs."""
    documents, labels = folder / "documents.jsonl", folder / "labels.tsv"
    numbered = list(enumerate(rows))
    documents.write_text(
        "".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, (_, text) in numbered)
    )
    labels.write_text("".join(f"d{n}\t{label}\n" for n, (label, _) in numbered))
    return str(documents), str(labels)


def many_labels(labels: int = 150, documents: int = 4500) -> list[tuple[str, str]]:
    """So many that training takes a few seconds."""
    rng = Random(0)
    words = [f"word{number}" for number in range(3000)]
    own = {label: rng.sample(words, 40) for label in range(labels)}
    made = []
    for number in range(documents):
        label = number % labels
        text = rng.choices(own[label], k=15) + rng.choices(words, k=25)
        made.append((f"label-{label}", " ".join(text)))
    return made


async def train(documents: str | None, labels: str, **more: object) -> JobHandle[TrainModelResult]:
    given = {"project_id": "p", "labels_path": labels, "documents_path": documents, **more}
    return await TRAIN_MODEL.kiq(TrainModelArgs.model_validate(given))


async def test_from_a_file_of_texts_to_predictions_and_back_to_nothing(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker(ML)
    documents, labels = write_corpus(tmp_path, topic_texts(150))
    indexing = await INDEX_DOCUMENTS.kiq(
        IndexDocumentsArgs(project_id="p", documents_path=documents)
    )
    assert (await indexing.result(WAIT_S)).documents == 150

    training = await train(None, labels)
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

    predicting = await PREDICT_DOCUMENTS.kiq(PredictDocumentsArgs(project_id="p"))
    predicted = await predicting.result(WAIT_S)
    assert predicted.documents == 150
    assert predicted.model_id == trained.model_id
    lines = storage.load(predicted.predictions).decode().splitlines()
    assert {json.loads(line)["document_id"] for line in lines} == {f"d{n}" for n in range(150)}

    for model_id in ("p", trained.model_id):
        asking = await ML_INFERENCE.kiq(
            MlInferenceArgs(model_id=model_id, input_data="rose tulip soil and water", top=2)
        )
        answer = await asking.result(WAIT_S)
        assert answer.model_id == trained.model_id
        assert answer.predictions[0][0].label == "garden"

    deleting = await DELETE_MODEL.kiq(DeleteModelArgs(project_id="p"))
    assert (await deleting.result(WAIT_S)).deleted == 1
    asking = await ML_INFERENCE.kiq(MlInferenceArgs(model_id="p", input_data=("rose",)))
    with pytest.raises(JobFailed, match="run train_model first"):
        await asking.result(WAIT_S)


async def test_what_no_retry_can_fix_fails_at_once_and_says_what_to_do(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker(ML)
    documents, labels = write_corpus(tmp_path, topic_texts(30))
    cases = [
        (await train(None, labels), "run index_documents first"),
        (await train(str(tmp_path / "none.csv"), labels), "no such file or folder"),
        (await train(documents, str(tmp_path / "none.tsv")), "no such file"),
        (await train(documents, labels, document_ids=["d0", "d3"]), "only 'garden'"),
        (await PREDICT_DOCUMENTS.kiq(PredictDocumentsArgs(project_id="p")), "train_model first"),
    ]
    for handle, words in cases:
        with pytest.raises(JobFailed, match=words):
            await handle.result(WAIT_S)  # type: ignore[attr-defined]
        job = await platform.job(handle)  # type: ignore[arg-type]
        assert job.attempt == 1


async def test_a_training_whose_worker_is_killed_is_done_by_another_and_makes_one_model(
    platform: Platform, tmp_path: Path
) -> None:
    worker = await platform.worker(ML)
    documents, labels = write_corpus(tmp_path, many_labels())
    handle = await train(documents, labels)
    async for event in handle.watch():
        if event.progress is not None:
            worker.kill()
            break
    await platform.worker(ML)

    result = await handle.result(WAIT_S)

    assert (result.classes, result.documents) == (150, 4500)
    job = await platform.job(handle)
    assert job.lost == 1
    storage = open_storage(platform.env["STORAGE_URL"])
    store = ModelStore(storage, "p")
    assert result.model_id == f"p@{store.version_of(None)}"
    versions = {key.split("/")[3] for key in storage.list("projects/p/models")}
    assert versions == {"current.json", store.version_of(None)}


async def test_a_cancelled_training_leaves_the_model_in_force(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker(ML)
    documents, labels = write_corpus(tmp_path, topic_texts(60))
    first = await (await train(documents, labels)).result(WAIT_S)
    documents, labels = write_corpus(tmp_path, many_labels())
    handle = await train(documents, labels)
    async for event in handle.watch():
        if event.progress is not None:
            await handle.cancel()
            break
    with pytest.raises(JobCancelled):
        await handle.result(WAIT_S)
    await platform.status_of(handle, Status.CANCELLED)
    store = ModelStore(open_storage(platform.env["STORAGE_URL"]), "p")
    assert first.model_id == f"p@{store.version_of(None)}"


async def test_a_named_data_set_is_scored_as_before(platform: Platform) -> None:
    await platform.worker(ML)
    handle = await TRAIN_MODEL.kiq(
        TrainModelArgs(dataset_id="wine", hyperparameters=Hyperparameters(folds=2))
    )
    result = await handle.result(WAIT_S)
    assert (result.dataset_id, result.fits, result.model_id) == ("wine", 2, None)
