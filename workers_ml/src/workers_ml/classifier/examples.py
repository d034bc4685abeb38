"""The features and labels of documents to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers_ml.classifier.errors import NotTrainable
from workers_ml.features import FeatureRows


@dataclass(frozen=True, slots=True)
class Examples:
    """
    `labels[i]` is an index into `classes`, which are sorted. A split never divides the documents
    that share a number in `groups`.
    """

    rows: FeatureRows
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, rows: FeatureRows, labels: Sequence[str], groups: Sequence[str | None]) -> Examples:
        """A document without a group is a group of its own. Raises `NotTrainable`."""
        classes = tuple(sorted(set(labels)))
        if len(classes) < 2:
            found = f"only {classes[0][:100]!r}" if classes else "no labelled document"
            raise NotTrainable(f"there must be at least two labels, and there is {found}")
        numbers = {label: number for number, label in enumerate(classes)}
        named: dict[str, int] = {}
        own = [
            -1 - row if group is None else named.setdefault(group, len(named))
            for row, group in enumerate(groups)
        ]
        return cls(
            rows,
            classes,
            np.array([numbers[label] for label in labels], np.int64),
            np.unique(np.array(own, np.int64), return_inverse=True)[1].astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.labels)
