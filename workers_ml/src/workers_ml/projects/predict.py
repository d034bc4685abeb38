"""Prediction of the labels of a project's documents, in bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from api_shared.storage import Storage
from workers_ml.classifier import TextClassifier
from workers_ml.projects.predictions import Format, prediction_writer
from workers_ml.projects.progress import Report, Stage, report_nothing
from workers_ml.projects.sources import Source


@dataclass(slots=True)
class Predicted:
    """`by_label` counts predictions; `unknown` are requested ids that no document has."""

    documents: int = 0
    by_label: Counter[str] = field(default_factory=Counter)
    probabilities: float = 0.0
    unknown: list[str] = field(default_factory=list)


def predict_project(
    storage: Storage,
    key: str,
    classifier: TextClassifier,
    source: Source,
    *,
    file_format: Format = "jsonl",
    document_ids: Collection[str] | None = None,
    report: Report = report_nothing,
) -> Predicted:
    """
    Write one prediction for each document to `key`, atomically.

    Only one batch is in memory at a time. Until the file is complete it has no name, so that a job
    that is killed leaves nothing behind.
    """
    requested = None if document_ids is None else frozenset(document_ids)
    total = source.total if requested is None else len(requested)
    unseen = set(requested or ())
    predicted = Predicted()
    stage = Stage(report, "predict", total, "documents")
    with tempfile.TemporaryFile() as file:
        with prediction_writer(file, file_format) as write:
            for everything in source.batches:
                batch = everything if requested is None else everything.only(requested)
                if not len(batch):
                    continue
                unseen.difference_update(batch.ids)
                found = classifier.predict(batch.rows)
                write(batch.ids, found)
                predicted.documents += len(batch)
                predicted.by_label.update(prediction.label for prediction in found)
                predicted.probabilities += sum(prediction.probability for prediction in found)
                stage.reached(predicted.documents)
        file.flush()
        file.seek(0)
        saving = Stage(report, "save", 1, "files")
        storage.save_file(key, Path(f"/dev/fd/{file.fileno()}"))
        saving.reached(1)
    predicted.unknown = sorted(unseen)
    return predicted
