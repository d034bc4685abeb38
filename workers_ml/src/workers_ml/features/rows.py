"""The counts of each feature in each document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """
    Compressed rows: row r is `features[starts[r]:starts[r + 1]]`, ascending, no feature twice,
    with `counts` of at least 1. `len(starts)` is one more than there are rows.
    """

    starts: NDArray[np.int64]
    features: NDArray[np.uint32]
    counts: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, row: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Features and counts of one document."""
        part = slice(self.starts[row], self.starts[row + 1])
        return self.features[part], self.counts[part]

    def take(self, kept: NDArray[np.bool_]) -> FeatureRows:
        """The rows where `kept` is true, in their order."""
        sizes = np.diff(self.starts)
        of_kept = np.repeat(kept, sizes)
        starts = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
        return FeatureRows(starts, self.features[of_kept], self.counts[of_kept])


def join_rows(parts: Sequence[FeatureRows]) -> FeatureRows:
    """All rows of all parts, in their order."""
    sizes = [np.diff(part.starts) for part in parts]
    return FeatureRows(
        np.concatenate([[0], np.cumsum(np.concatenate([*sizes, np.empty(0, np.int64)]))]).astype(
            np.int64
        ),
        np.concatenate([*(part.features for part in parts), np.empty(0, np.uint32)]),
        np.concatenate([*(part.counts for part in parts), np.empty(0, np.uint16)]),
    )
