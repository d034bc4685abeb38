"""Models are stored whole, and refused when anything about them is wrong."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from api_shared.storage import digest_of
from api_shared.storage.folder import FolderStorage
from fixtures.texts import topic_texts, trained_on_topics
from workers_ml.features import count_features
from workers_ml.models import ModelCache, ModelRefused, ModelStore, NoModel, UnknownVersion

TRAINED = trained_on_topics()


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "storage")


@pytest.fixture
def store(storage: FolderStorage) -> ModelStore:
    return ModelStore(storage, "p")


def test_a_stored_model_predicts_what_the_trained_one_did(store: ModelStore) -> None:
    description = store.save(TRAINED, b"plot")
    model = store.load()
    rows = count_features([text for _, text in topic_texts(50, seed=3)])
    assert model.classifier.predict(rows) == TRAINED.classifier.predict(rows)
    assert model.classifier.weights.flags.c_contiguous
    assert model.description == description
    assert model.description.accuracy == TRAINED.metrics.accuracy


def test_the_newest_counts_and_three_are_kept(storage: FolderStorage, store: ModelStore) -> None:
    versions = [store.save(TRAINED, b"plot").version for _ in range(5)]
    assert store.version_of(None) == versions[-1]
    assert store.load(versions[2]).description.version == versions[2]
    with pytest.raises(UnknownVersion, match=f"known: {versions[2]}"):
        store.load(versions[1])
    assert len(storage.list("projects/p/models")) == 3 * 3 + 1


def test_deleting_removes_all_files_and_numbers_go_on(
    storage: FolderStorage, store: ModelStore
) -> None:
    assert store.delete() == 0
    store.save(TRAINED)
    store.save(TRAINED)
    assert store.delete() == 2
    assert storage.list("projects/p") == ["projects/p/models/current.json"]
    assert store.delete() == 0
    with pytest.raises(NoModel, match="run train_model first"):
        store.load()
    assert store.save(TRAINED).version.startswith("000003-")


def test_of_trainings_at_a_time_none_is_lost(storage: FolderStorage) -> None:
    def save_three() -> None:
        for _ in range(3):
            ModelStore(storage, "p").save(TRAINED)

    threads = [threading.Thread(target=save_three) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = ModelStore(storage, "p")
    assert store.version_of(None).startswith("000009-")
    store.load()
    assert len(storage.list("projects/p/models")) == 3 * 2 + 1


def save_and_die(store: ModelStore, at_step: str) -> int:
    """Save in another process, which is killed after a step; the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            store.save(
                TRAINED, b"", lambda step: os.kill(os.getpid(), 9) if step == at_step else None
            )
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("step", ["weights", "description", "current"])
def test_a_job_killed_while_it_saves_leaves_the_old_model_or_the_new_one(
    storage: FolderStorage, store: ModelStore, step: str
) -> None:
    old = store.save(TRAINED).version
    assert save_and_die(store, step) == signal.SIGKILL
    model = store.load()
    assert (model.description.version == old) == (step != "current")
    assert store.save(TRAINED).version == store.version_of(None)
    kept = {key.split("/")[3] for key in storage.list("projects/p/models")}
    assert len(kept - {"current.json"}) == (3 if step == "current" else 2)


# Files that are wrong.

Change = Callable[[bytes], bytes]


def changed_json(**changes: Any) -> Change:
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


def changed_array(name: str, change: Callable[[Any], Any]) -> Change:
    def of(data: bytes) -> bytes:
        arrays = load(data)
        array = change(arrays.pop(name))
        return bytes(save(arrays if array is None else {**arrays, name: array}))

    return of


def filled(value: float) -> Callable[[Any], Any]:
    return lambda array: np.full_like(array, value)


UNSIGNED: dict[str, tuple[str, Change]] = {
    "weights cut": ("weights", lambda data: data[: len(data) // 2]),
    "weights longer": ("weights", lambda data: data + b"\0"),
    "weights flipped": ("weights", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "weights empty": ("weights", lambda data: b""),
    "description cut": ("model", lambda data: data[: len(data) // 2]),
    "description another": ("model", changed_json(temperature=2.0)),
    "current cut": ("current", lambda data: data[:-5]),
    "current no JSON": ("current", lambda data: b"\x80\x04pickle"),
    "current no object": ("current", lambda data: b"[]"),
    "current deep": ("current", lambda data: b"[" * 100_000),
    "current other format": ("current", changed_json(format=2)),
    "current hostile version": (
        "current",
        lambda data: data.replace(b'"version": "0000', b'"version": "../0'),
    ),
}
SIGNED: dict[str, tuple[str, Change]] = {
    "no safetensors": ("weights", lambda data: b"\xff" * len(data)),
    "huge header": ("weights", lambda data: (2**63).to_bytes(8, "little") + data[8:]),
    "array missing": ("weights", changed_array("idf", lambda array: None)),
    "array too many": ("weights", changed_array("weights", lambda a: a[:, :1])),
    "other dtype": ("weights", changed_array("weights", lambda a: a.astype(np.float32))),
    "other shape": ("weights", changed_array("idf", lambda a: a[:-1])),
    "not finite": ("weights", changed_array("weights", filled(np.nan))),
    "infinite": ("weights", changed_array("intercepts", filled(np.inf))),
    "unordered": ("weights", changed_array("features", lambda a: a[::-1].copy())),
    "over range": ("weights", changed_array("features", lambda a: a + np.uint32(2**22))),
    "other features": ("model", changed_json(features="words-9")),
    "no classes": ("model", changed_json(classes=[])),
    "classes no text": ("model", changed_json(classes=[1, 2, 3])),
    "temperature zero": ("model", changed_json(temperature=0)),
    "accuracy over one": ("model", changed_json(accuracy=7)),
    "unknown key": ("model", changed_json(code="import os")),
    "other version": ("model", changed_json(version="000009-00000000")),
    "huge size": ("model", changed_json(weights={"sha256": "0" * 64, "size_bytes": 2**60})),
}


def spoil(storage: FolderStorage, version: str, file: str, change: Change) -> None:
    keys = {
        "weights": f"projects/p/models/{version}/weights.safetensors",
        "model": f"projects/p/models/{version}/model.json",
        "current": "projects/p/models/current.json",
    }
    storage.save(keys[file], change(storage.load(keys[file])))


@pytest.mark.parametrize("case", UNSIGNED)
def test_a_damaged_file_is_refused(storage: FolderStorage, store: ModelStore, case: str) -> None:
    version = store.save(TRAINED).version
    spoil(storage, version, *UNSIGNED[case])
    with pytest.raises(ModelRefused, match=r"refused: projects/p/models/.*train it again"):
        store.load()


@pytest.mark.parametrize("case", SIGNED)
def test_a_hostile_file_is_refused_though_all_hashes_fit(
    storage: FolderStorage, store: ModelStore, case: str
) -> None:
    version = store.save(TRAINED).version
    file, change = SIGNED[case]
    spoil(storage, version, file, change)
    if file == "weights":
        weights = storage.load(f"projects/p/models/{version}/weights.safetensors")
        part = {"sha256": digest_of(weights), "size_bytes": len(weights)}
        described = json.loads(storage.load(f"projects/p/models/{version}/model.json"))
        part["features"] = described["weights"]["features"]
        spoil(storage, version, "model", changed_json(weights=part))
    description = storage.load(f"projects/p/models/{version}/model.json")
    kept = [{"version": version, "sha256": digest_of(description)}]
    spoil(storage, version, "current", changed_json(kept=kept))
    with pytest.raises(ModelRefused):
        store.load()


@pytest.mark.parametrize("damage", [b"", b"{}}", b"[" * 100_000, b" " * (65 << 20)])
def test_a_damaged_list_of_versions_is_repaired_by_training_or_deleting(
    storage: FolderStorage, store: ModelStore, damage: bytes
) -> None:
    store.save(TRAINED)
    storage.save("projects/p/models/current.json", damage)
    with pytest.raises(ModelRefused):
        store.load()
    assert store.save(TRAINED).version.startswith("000002-")
    store.load()
    storage.save("projects/p/models/current.json", damage)
    store.delete()
    assert storage.list("projects/p/models") == ["projects/p/models/current.json"]
    with pytest.raises(NoModel):
        store.load()


def test_a_missing_file_is_refused(storage: FolderStorage, store: ModelStore) -> None:
    version = store.save(TRAINED).version
    storage.delete(f"projects/p/models/{version}/weights.safetensors")
    with pytest.raises(ModelRefused, match="does not exist"):
        store.load()


# The cache.


def test_the_cache_sees_a_new_model_and_a_deleted_one(
    storage: FolderStorage, store: ModelStore
) -> None:
    cache = ModelCache(storage)
    with pytest.raises(NoModel):
        cache.get("p")
    first = store.save(TRAINED).version
    _, model = cache.get("p")
    assert cache.get("p")[1] is model
    assert cache.get(f"p@{first}")[1] is model
    second = store.save(TRAINED).version
    assert cache.get("p")[1].description.version == second
    store.delete()
    with pytest.raises(NoModel):
        cache.get("p")


def test_the_cache_is_bounded(storage: FolderStorage) -> None:
    for project in ("a", "b"):
        ModelStore(storage, project).save(TRAINED)
    cache = ModelCache(storage, max_bytes=1)
    _, first = cache.get("a")
    cache.get("b")
    assert cache.get("a")[1] is not first


def test_many_that_need_one_model_load_it_once(
    storage: FolderStorage, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(TRAINED)
    cache = ModelCache(storage)
    loads: list[str | None] = []
    load_model = ModelStore.load

    def counted(self: ModelStore, version: str | None = None) -> Any:
        loads.append(version)
        return load_model(self, version)

    monkeypatch.setattr(ModelStore, "load", counted)
    threads = [threading.Thread(target=cache.get, args=("p",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
