"""The ML tasks, run in place: they work on the storage of the settings of their worker."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import workers_ml.main  # noqa: F401 - binds the tasks
from api_shared.broker import ml_broker
from api_shared.contracts.ml import (
    DELETE_MODEL,
    ML_INFERENCE,
    PREDICT_DOCUMENTS,
    TRAIN_MODEL,
    DeleteModelArgs,
    MlInferenceArgs,
    PredictDocumentsArgs,
    TrainModelArgs,
)
from api_shared.contracts.ml_index import (
    INDEX_DOCUMENTS,
    SIMILAR_DOCUMENTS,
    IndexDocumentsArgs,
    SimilarDocumentsArgs,
)
from api_shared.storage import open_storage
from api_shared.testing import default_settings, running_in_place
from fixtures.texts import topic_texts
from workers_ml.storage import worker_storage


async def test_every_task_uses_the_storage_of_the_settings_that_its_worker_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that read the environment again would fail."""
    monkeypatch.setenv("STORAGE_URL", "nowhere:")
    monkeypatch.setenv("LEASE_S", "no number")
    texts, labels = tmp_path / "texts.jsonl", tmp_path / "labels.tsv"
    rows = list(enumerate(topic_texts(60)))
    texts.write_text(
        "".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, (_, text) in rows)
    )
    labels.write_text("".join(f"d{n}\t{label}\n" for n, (label, _) in rows))
    settings = default_settings(storage_url=f"file:{tmp_path}/storage")
    async with running_in_place(ml_broker, settings=settings):
        documents = IndexDocumentsArgs(project_id="p", documents_path=str(texts))
        assert (await (await INDEX_DOCUMENTS.kiq(documents)).result()).documents == 60
        query = SimilarDocumentsArgs(project_id="p", text="rose and tulip")
        assert (await (await SIMILAR_DOCUMENTS.kiq(query)).result()).similar
        training = TrainModelArgs.model_validate({"project_id": "p", "labels_path": str(labels)})
        trained = await (await TRAIN_MODEL.kiq(training)).result()
        question = MlInferenceArgs(model_id="p", input_data="rose and tulip")
        assert (await (await ML_INFERENCE.kiq(question)).result()).model_id == trained.model_id
        predicted = await (
            await PREDICT_DOCUMENTS.kiq(PredictDocumentsArgs(project_id="p"))
        ).result()
        storage = open_storage(settings.storage_url)
        assert len(storage.load(predicted.predictions).splitlines()) == 60
        assert (
            await (await DELETE_MODEL.kiq(DeleteModelArgs(project_id="p"))).result()
        ).deleted == 1


async def test_the_storage_is_opened_once_and_can_be_sent_to_a_jobs_own_process(
    tmp_path: Path,
) -> None:
    settings = default_settings(storage_url=f"file:{tmp_path}/storage")
    async with running_in_place(ml_broker, settings=settings):
        storage = worker_storage()
        assert worker_storage() is storage
    storage.save("note", b"here")
    assert pickle.loads(pickle.dumps(storage)).load("note") == b"here"
