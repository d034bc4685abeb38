"""The split into training and held-out documents: stratified by label, whole groups, seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers_ml.classifier.errors import NotTrainable
from workers_ml.classifier.examples import Examples


def hold_out(examples: Examples, share: float, seed: int) -> NDArray[np.bool_]:
    """
    True for the documents that are held out, about `share` of each label.

    Greedy: from the largest group to the smallest, equal ones in random order, a group is held out
    if that brings the counts of its labels nearer to their share (squared distance, each label
    weighted by its size). The last documents of a label are never held out. Raises `NotTrainable`
    where the groups leave nothing to hold out.
    """
    sizes = np.bincount(examples.labels, minlength=len(examples.classes)).astype(np.float64)
    target = share * sizes
    held = np.zeros_like(sizes)
    by_group = np.argsort(examples.groups, kind="stable")
    groups = np.split(by_group, np.flatnonzero(np.diff(examples.groups[by_group])) + 1)
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    largest_first = sorted(shuffled.tolist(), key=lambda number: -len(groups[number]))
    chosen = np.zeros(len(examples), np.bool_)
    for number in largest_first:
        labels, counts = np.unique(examples.labels[groups[number]], return_counts=True)
        nearer = np.sum(counts * (2 * (held[labels] - target[labels]) + counts) / sizes[labels])
        if nearer < 0 and (held[labels] + counts < sizes[labels]).all():
            held[labels] += counts
            chosen[groups[number]] = True
    if not chosen.any():
        raise NotTrainable(
            f"nothing can be held out of {len(examples):,} documents in {len(groups):,} groups: "
            f"add documents for each label, or use smaller groups"
        )
    return chosen
