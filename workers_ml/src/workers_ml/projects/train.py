"""Training of a project's model from its labels and documents."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from workers_ml.classifier import (
    Examples,
    NotTrainable,
    Trained,
    TrainingOptions,
    train,
)
from workers_ml.classifier.confusion_plot import plot_confusion
from workers_ml.features import join_rows
from workers_ml.models import Description, ModelStore
from workers_ml.projects.labels import Label
from workers_ml.projects.progress import Report, Stage, report_nothing
from workers_ml.projects.sources import Batch, Source

MAX_EXAMPLES = 20


@dataclass(slots=True)
class Found:
    """How many documents and labels could be used, and how many not."""

    read: int = 0
    unlabelled: int = 0
    duplicates: int = 0
    without_document: int = 0
    first_without_document: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProjectModel:
    trained: Trained
    description: Description
    found: Found
    confusion_plot_key: str | None


def train_project(
    store: ModelStore,
    source: Source,
    labels: dict[str, Label],
    options: TrainingOptions,
    *,
    document_ids: Collection[str] | None = None,
    report: Report = report_nothing,
) -> ProjectModel:
    """
    Read the labelled documents, train, and put the model in force.

    Of documents with the same text only the first counts: copies on both sides of the split would
    make the scores too good. Raises `NotTrainable`, and the errors of reading the source.
    """
    if document_ids is not None:
        requested = frozenset(document_ids)
        labels = {name: label for name, label in labels.items() if name in requested}
    examples, found = collect(source, labels, report)
    fitting = Stage(report, "fit", len(examples.classes), "classes")
    trained = train(examples, options, lambda done, total: fitting.reached(done))
    saving = Stage(report, "save", 1, "models")
    plot = plot_confusion(trained.metrics.confusion, examples.classes)
    description = store.save(trained, plot)
    saving.reached(1)
    key = store.confusion_plot_key(description.version) if plot is not None else None
    return ProjectModel(trained, description, found, key)


def collect(
    source: Source, labels: dict[str, Label], report: Report = report_nothing
) -> tuple[Examples, Found]:
    """The labelled documents of `source`, each text once. Raises `NotTrainable`."""
    found = Found()
    reading = Stage(report, "read", source.total, "documents")
    parts: list[Batch] = []
    texts: set[bytes] = set()
    ids: set[str] = set()
    for batch in source.batches:
        labelled = batch.only(labels)
        ids.update(labelled.ids)
        new = _first_of_each_text(labelled, texts)
        found.read += len(batch)
        found.unlabelled += len(batch) - len(labelled)
        found.duplicates += len(labelled) - len(new)
        parts.append(new)
        reading.reached(found.read)
    missing = [name for name in labels if name not in ids]
    found.without_document = len(missing)
    found.first_without_document = missing[:MAX_EXAMPLES]
    if labels and not ids:
        raise NotTrainable(
            f"none of the {len(labels):,} labelled documents is among the {found.read:,} read: "
            f"the first label is for {missing[0]!r}; check the ids"
        )
    names = [name for part in parts for name in part.ids]
    groups = [group for part in parts for group in part.groups]
    return (
        Examples.of(
            join_rows([part.rows for part in parts]),
            [labels[name].label for name in names],
            [labels[name].group or group for name, group in zip(names, groups, strict=True)],
        ),
        found,
    )


def _first_of_each_text(batch: Batch, seen: set[bytes]) -> Batch:
    """The documents whose text was not seen before; adds them to `seen`."""
    first: set[str] = set()
    for name, text in zip(batch.ids, batch.hashes, strict=True):
        if text not in seen:
            seen.add(text)
            first.add(name)
    return batch.only(first)
