"""Train a project's model from its labels and documents."""

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
from workers_ml.classifier.confusion_plot import draw_confusion
from workers_ml.features import join_rows
from workers_ml.models import Description, ModelStore
from workers_ml.projects.labels import Label
from workers_ml.projects.progress import Stage, Tell, tell_nobody
from workers_ml.projects.sources import Batch, Source

MAX_EXAMPLES = 20


@dataclass(slots=True)
class Found:
    """What of the labels and documents can be learnt from."""

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
    picture_key: str | None


def train_project(
    store: ModelStore,
    source: Source,
    labels: dict[str, Label],
    options: TrainingOptions,
    *,
    document_ids: Collection[str] | None = None,
    tell: Tell = tell_nobody,
) -> ProjectModel:
    """
    Read the labelled documents, train, and put the model in force.

    Of documents with one text the first counts: a copy on both sides of the split would flatter.
    Raises `NotTrainable`, and what reading the source raises.
    """
    if document_ids is not None:
        wanted = frozenset(document_ids)
        labels = {name: label for name, label in labels.items() if name in wanted}
    examples, found = collect(source, labels, tell)
    fitting = Stage(tell, "fit", len(examples.classes), "classes")
    trained = train(examples, options, lambda done, total: fitting.at(done))
    saving = Stage(tell, "save", 1, "models")
    picture = draw_confusion(trained.metrics.confusion, examples.classes)
    description = store.save(trained, picture)
    saving.at(1)
    key = store.picture_key(description.version) if picture is not None else None
    return ProjectModel(trained, description, found, key)


def collect(
    source: Source, labels: dict[str, Label], tell: Tell = tell_nobody
) -> tuple[Examples, Found]:
    """The labelled documents of `source`, each text once. Raises `NotTrainable`."""
    found = Found()
    reading = Stage(tell, "read", source.total, "documents")
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
        reading.at(found.read)
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
