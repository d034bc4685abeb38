"""Which documents are held out: stratified by label, never tearing a group apart, seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers_ml.classifier.errors import NotTrainable
from workers_ml.classifier.examples import Examples


def hold_out(examples: Examples, share: float, seed: int) -> NDArray[np.bool_]:
    """
    True for the documents held out, about `share` of each label.

    Greedy: from the largest group to the smallest, equals in random order, a group is held out if
    that brings the labels' numbers nearer to their share (squared distance, each label weighed by
    its size). The last documents of a label are never held out. Raises `NotTrainable` where the
    groups leave nothing to hold out.
    """
    sizes = np.bincount(examples.labels, minlength=len(examples.classes)).astype(np.float64)
    wanted = share * sizes
    held = np.zeros_like(sizes)
    by_group = np.argsort(examples.groups, kind="stable")
    groups = np.split(by_group, np.flatnonzero(np.diff(examples.groups[by_group])) + 1)
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    largest_first = sorted(shuffled.tolist(), key=lambda number: -len(groups[number]))
    chosen = np.zeros(len(examples), np.bool_)
    for number in largest_first:
        labels, counts = np.unique(examples.labels[groups[number]], return_counts=True)
        nearer = np.sum(counts * (2 * (held[labels] - wanted[labels]) + counts) / sizes[labels])
        if nearer < 0 and (held[labels] + counts < sizes[labels]).all():
            held[labels] += counts
            chosen[groups[number]] = True
    if not chosen.any():
        raise NotTrainable(
            f"nothing can be held out of {len(examples):,} documents in {len(groups):,} groups: "
            f"more documents a label, or smaller groups, are wanted"
        )
    return chosen
