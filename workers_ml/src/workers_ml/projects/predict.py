"""Predict the labels of a project's documents, in bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from api_shared.storage import Storage
from workers_ml.classifier import TextClassifier
from workers_ml.projects.predictions import Format, writing
from workers_ml.projects.progress import Stage, Tell, tell_nobody
from workers_ml.projects.sources import Source


@dataclass(slots=True)
class Predicted:
    """`by_label` counts predictions; `unknown` are wanted ids that no document has."""

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
    wanted_format: Format = "jsonl",
    document_ids: Collection[str] | None = None,
    tell: Tell = tell_nobody,
) -> Predicted:
    """
    Write a prediction a document to `key`, whole or not at all.

    A batch is in memory at a time. Until it is whole the file has no name, so that nothing is left
    of a job that was killed.
    """
    wanted = None if document_ids is None else frozenset(document_ids)
    total = source.total if wanted is None else len(wanted)
    left = set(wanted or ())
    predicted = Predicted()
    stage = Stage(tell, "predict", total, "documents")
    with tempfile.TemporaryFile() as file:
        with writing(file, wanted_format) as write:
            for everything in source.batches:
                batch = everything if wanted is None else everything.only(wanted)
                if not len(batch):
                    continue
                left.difference_update(batch.ids)
                found = classifier.predict(batch.rows)
                write(batch.ids, found)
                predicted.documents += len(batch)
                predicted.by_label.update(prediction.label for prediction in found)
                predicted.probabilities += sum(prediction.probability for prediction in found)
                stage.at(predicted.documents)
        file.flush()
        file.seek(0)
        saving = Stage(tell, "save", 1, "files")
        storage.save_file(key, Path(f"/dev/fd/{file.fileno()}"))
        saving.at(1)
    predicted.unknown = sorted(left)
    return predicted
