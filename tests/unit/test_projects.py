"""Labels, sources, training, prediction and inference of a project, without Taskiq."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet
from pydantic import ValidationError

from api_shared.contracts.general import Arguments
from api_shared.contracts.ml import (
    TRAIN_MODEL,
    Hyperparameters,
    ModelOptions,
    PredictDocumentsArgs,
    TrainModelArgs,
)
from api_shared.contracts.ml_index import SIMILAR_DOCUMENTS
from api_shared.errors import InvalidArguments
from api_shared.storage import NotStored
from api_shared.storage.folder import FolderStorage
from fixtures.texts import topic_texts
from workers_ml.classifier import NotTrainable
from workers_ml.documents import (
    Document,
    DocumentsUnreadable,
    RowCounts,
    TooManyMalformed,
)
from workers_ml.index import IndexFiles, NoIndex, update_index
from workers_ml.models import ModelCache, ModelStore, NoModel
from workers_ml.projects.infer import infer
from workers_ml.projects.labels import Label, read_labels
from workers_ml.projects.progress import Stage
from workers_ml.tasks.predict_documents import predict_to
from workers_ml.tasks.train_model import score_dataset, train_from_labels

TEXTS = topic_texts(150)


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "storage")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.tsv"
    lines = [f"doc-{number}\t{label}\n" for number, (label, _) in enumerate(TEXTS)]
    path.write_text("document_id\tlabel\n" + "".join(lines))
    return path


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    rows = [{"id": f"doc-{number}", "text": text} for number, (_, text) in enumerate(TEXTS)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def index(storage: FolderStorage) -> None:
    made = (Document(f"doc-{number}", text) for number, (_, text) in enumerate(TEXTS))
    update_index(IndexFiles(storage, "p"), made, is_incremental=False)


def train_args(labels: Path, documents: Path | None = None, **more: object) -> TrainModelArgs:
    given = {"project_id": "p", "labels_path": str(labels), **more}
    if documents is not None:
        given["documents_path"] = str(documents)
    return TrainModelArgs.model_validate(given)


# Labels.


def test_labels_are_read_with_and_without_header_and_group(tmp_path: Path) -> None:
    path = tmp_path / "l.tsv"
    path.write_bytes(b"\xef\xbb\xbfdocument_id\tlabel\tgroup\r\na\tx\tg1\r\n\r\nb\ty\t\r\na\tx\n")
    assert read_labels(path, RowCounts()) == {"a": Label("x", "g1"), "b": Label("y")}


def test_malformed_labels_are_reported_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "l.tsv"
    path.write_bytes(b"a\tx\nb\nc\t\n\td\ne\t1\t2\t3\nf\t\xff\na\ty\ng\tb\x07d\n")
    counts = RowCounts()
    assert read_labels(path, counts, max_malformed_share=1) == {"a": Label("x")}
    assert [row.line for row in counts.examples] == [2, 3, 4, 5, 6, 7, 8]
    assert "already had the label 'x'" in counts.examples[5].reason
    with pytest.raises(
        TooManyMalformed,
        match=r"7 of 8 rows .* l.tsv, line 2: expected 2 or 3 fields between tabs, got 1",
    ):
        read_labels(path, RowCounts())


def test_missing_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentsUnreadable, match="no such file"):
        read_labels(tmp_path / "none.tsv", RowCounts())


# Training.


def test_training_from_files_and_from_the_index_gives_the_same_model(
    storage: FolderStorage, labels: Path, documents: Path, index: None
) -> None:
    from_files = train_from_labels(train_args(labels, documents), storage)
    from_index = train_from_labels(train_args(labels), storage)
    assert from_files.accuracy == from_index.accuracy > 0.8
    one, two = (
        ModelStore(storage, "p").load((found.model_id or "").partition("@")[2]).classifier
        for found in (from_files, from_index)
    )
    assert one.weights.tobytes() == two.weights.tobytes()


def test_the_result_says_what_was_learnt_and_how_well(
    storage: FolderStorage, labels: Path, documents: Path
) -> None:
    reported: list[tuple[str, float, float | None, str]] = []
    with labels.open("a") as file:
        file.write("gone-1\tgarden\nbad line\n")
    with documents.open("a") as file:
        file.write(json.dumps({"id": "copy", "text": TEXTS[0][1]}) + "\n")
        file.write(json.dumps({"id": "unlabelled", "text": "some words"}) + "\n{\n")
    with labels.open("a") as file:
        file.write("copy\tgarden\n")
    result = train_from_labels(
        train_args(labels, documents), storage, lambda *progress: reported.append(progress)
    )
    assert (result.documents, result.classes, result.fits) == (150, 3, 3)
    score = result.score
    assert score is not None
    assert (score.trained_on, score.held_out) == (120, 30)
    found = score.found
    assert (found.read, found.unlabelled, found.duplicates) == (152, 1, 1)
    assert (found.without_document, found.first_without_document) == (1, ["gone-1"])
    assert found.malformed == 2
    assert [each.label for each in score.per_class] == ["garden", "kitchen", "office"]
    assert sum(map(sum, score.confusion or [])) == 30
    assert storage.load(score.confusion_png or "").startswith(b"\x89PNG")
    stages = list(dict.fromkeys(stage for stage, *_ in reported))
    assert stages == ["read", "fit", "save"]
    assert reported[-1][:3] == ("save", 1, 1)
    assert TRAIN_MODEL.decode_result(TRAIN_MODEL.encode_result(result)) == result


def test_some_documents_alone_can_be_trained_on(
    storage: FolderStorage, labels: Path, documents: Path
) -> None:
    some = [f"doc-{number}" for number in range(90)]
    result = train_from_labels(train_args(labels, documents, document_ids=some), storage)
    assert result.documents == 90


def test_groups_of_the_labels_are_kept_whole(
    storage: FolderStorage, tmp_path: Path, documents: Path
) -> None:
    labels = tmp_path / "grouped.tsv"
    lines = [f"doc-{n}\t{label}\tsource-{n // 10}\n" for n, (label, _) in enumerate(TEXTS)]
    labels.write_text("".join(lines))
    result = train_from_labels(train_args(labels, documents), storage)
    assert result.score is not None
    assert result.score.held_out == 30  # three whole groups of ten


def test_labels_of_other_documents_are_named(
    storage: FolderStorage, tmp_path: Path, documents: Path
) -> None:
    labels = tmp_path / "other.tsv"
    labels.write_text("x-1\ta\nx-2\tb\n")
    with pytest.raises(NotTrainable, match="first label is for 'x-1'; check the ids"):
        train_from_labels(train_args(labels, documents), storage)


def test_training_without_an_index_says_so(storage: FolderStorage, labels: Path) -> None:
    with pytest.raises(NoIndex, match="run index_documents first"):
        train_from_labels(train_args(labels), storage)


@pytest.mark.parametrize("stage", ["read", "fit", "save"])
def test_a_training_killed_in_a_stage_leaves_the_model_as_it_was(
    storage: FolderStorage, labels: Path, documents: Path, stage: str
) -> None:
    before = train_from_labels(train_args(labels, documents), storage).model_id

    def die(name: str, done: float, total: float | None, message: str) -> None:
        if name == stage and not (stage == "save" and done):
            os.kill(os.getpid(), signal.SIGKILL)

    killed = in_process(lambda: train_from_labels(train_args(labels, documents), storage, die))
    assert killed == signal.SIGKILL
    assert f"p@{ModelStore(storage, 'p').version_of(None)}" == before
    ModelStore(storage, "p").load()


def in_process(run: Callable[[], object]) -> int:
    """Run it in a process of its own; the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            run()
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


# Prediction.


@pytest.fixture
def model(storage: FolderStorage, labels: Path, documents: Path) -> str:
    return train_from_labels(train_args(labels, documents), storage).model_id or ""


@pytest.mark.parametrize("wanted", ["jsonl", "tsv", "parquet"])
def test_each_document_gets_a_label_in_each_format(
    storage: FolderStorage, documents: Path, index: None, model: str, wanted: str
) -> None:
    args = PredictDocumentsArgs.model_validate({"project_id": "p", "format": wanted})
    result = predict_to("job", args, storage)
    assert result.predictions == f"projects/p/predictions/job.{wanted}"
    assert (result.documents, result.model_id) == (150, model)
    assert sum(result.by_label.values()) == 150
    with storage.local(result.predictions) as path:
        if wanted == "parquet":
            rows = parquet.read_table(path).to_pylist()
        elif wanted == "jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        else:
            header, *lines = (line.split("\t") for line in path.read_text().splitlines())
            rows = [dict(zip(header, line, strict=True)) for line in lines]
    right = [row["label"] == TEXTS[int(row["document_id"][4:])][0] for row in rows]
    assert sum(right) > 140
    assert all(0 < float(row["probability"]) <= 1 for row in rows)


def test_some_documents_are_predicted_and_unknown_ones_named(
    storage: FolderStorage, index: None, model: str
) -> None:
    args = PredictDocumentsArgs(project_id="p", document_ids=("doc-3", "none", "doc-140"))
    result = predict_to("job", args, storage)
    assert (result.documents, result.unknown_documents, result.first_unknown) == (2, 1, ["none"])


def test_files_can_be_predicted_with_another_projects_model(
    storage: FolderStorage, documents: Path, model: str
) -> None:
    args = PredictDocumentsArgs(project_id="q", documents_path=str(documents), model_id=model)
    result = predict_to("job", args, storage)
    assert (result.documents, result.model_id) == (150, model)
    with pytest.raises(NoModel):
        predict_to("job", PredictDocumentsArgs(project_id="q"), storage)


def test_a_prediction_that_is_killed_or_fails_leaves_no_file(
    storage: FolderStorage, documents: Path, model: str
) -> None:
    args = PredictDocumentsArgs(project_id="p", documents_path=str(documents))

    def die(stage: str, done: float, total: float | None, message: str) -> None:
        if stage == "save":
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_process(lambda: predict_to("job", args, storage, die)) == signal.SIGKILL
    documents.write_text("{\n{\n")
    with pytest.raises(TooManyMalformed):
        predict_to("job", args, storage)
    with pytest.raises(NotStored):
        storage.load("projects/p/predictions/job.jsonl")


def test_inference_names_the_model_that_answered(storage: FolderStorage, model: str) -> None:
    answered, found = infer(ModelCache(storage), "p", ["rose soil tulip", "invoice desk"], top=2)
    assert answered == model
    assert [best[0].label for best in found] == ["garden", "office"]
    assert [len(best) for best in found] == [2, 2]


# Named data sets, and arguments.


def test_a_named_data_set_is_scored_and_keeps_no_model() -> None:
    result = score_dataset("wine", Hyperparameters(folds=2))
    assert (result.dataset_id, result.model_id, result.fits, result.documents) == (
        "wine", None, 2, 178,
    )  # fmt: skip
    assert result.accuracy > 0.9


def test_model_config_is_taken_under_its_own_name_and_under_pythons() -> None:
    seed_style = {
        "dataset_id": "wine",
        "model_config": {"min_df": 3},
        "hyperparameters": {"c": 2},
    }
    args = TrainModelArgs.model_validate(seed_style)
    assert args.model_options == ModelOptions(min_df=3)
    assert TrainModelArgs.model_validate(json.loads(TRAIN_MODEL.encode_args(args))) == args
    assert TrainModelArgs.model_validate({"dataset_id": "wine", "model_options": {"min_df": 3}})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"dataset_id": "wine", "project_id": "p", "labels_path": "x"},
        {"project_id": "p"},
        {"labels_path": "x"},
        {"dataset_id": "wine", "document_ids": ["a"]},
        {"project_id": "../p", "labels_path": "x"},
        {"project_id": "p", "labels_path": "x", "document_ids": []},
        {"dataset_id": "iris"},
        {"dataset_id": "wine", "model_config": {"algorithm": "pickle"}},
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(wrong: dict[str, object]) -> None:
    assert issubclass(TrainModelArgs, Arguments)
    with pytest.raises(ValidationError):
        TrainModelArgs.model_validate(wrong)


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


def test_progress_reports_the_rate_and_the_time_left() -> None:
    reported: list[tuple[float, str]] = []
    times = iter([0.0, 0.0, 2.0, 4.0])
    stage = Stage(
        lambda name, done, total, message: reported.append((done, message)),
        "read", 200, "documents", lambda: next(times),
    )  # fmt: skip
    stage.reached(100)
    stage.reached(200)
    assert reported == [(0, ""), (100, "50 documents/s, 2 s left"), (200, "50 documents/s")]
