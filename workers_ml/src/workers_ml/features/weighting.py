"""Sublinear tf-idf: the features that count, and their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from workers_ml.features.hashing import HASH_BITS
from workers_ml.features.rows import FeatureRows

NO_FEATURE = np.uint32(2**32 - 1)


@dataclass(frozen=True, slots=True)
class Weighting:
    """`features` are those that count, ascending; feature i is column i, weighed by `idf[i]`."""

    features: NDArray[np.uint32]
    idf: NDArray[np.float32]

    def weigh(self, rows: FeatureRows) -> csr_matrix:
        """float32, (rows, features): (1 + ln count) · idf, each row of length 1 or all zero."""
        places = np.searchsorted(self.features, rows.features)
        known = np.append(self.features, NO_FEATURE)[places] == rows.features
        columns = places[known].astype(np.int32)
        held = np.concatenate([[0], np.cumsum(known)])
        starts = held[rows.starts]
        weights = (1 + np.log(rows.counts[known].astype(np.float32))) * self.idf[columns]
        sums = np.concatenate([[0.0], np.cumsum(np.square(weights, dtype=np.float64))])
        lengths = np.sqrt(np.diff(sums[starts]))
        lengths[lengths == 0] = 1
        weights /= np.repeat(lengths, np.diff(starts)).astype(np.float32)
        return csr_matrix((weights, columns, starts), shape=(len(rows), len(self.features)))


def fit_weighting(rows: FeatureRows, *, min_df: int) -> Weighting:
    """
    Features of at least `min_df` documents, with idf = ln((1 + n) / (1 + df)) + 1: the smoothed
    one of scikit-learn's TfidfTransformer.
    """
    holders = np.bincount(rows.features, minlength=1 << HASH_BITS)
    features = np.flatnonzero(holders >= max(min_df, 1)).astype(np.uint32)
    idf = np.log((1 + len(rows)) / (1 + holders[features])) + 1
    return Weighting(features, idf.astype(np.float32))
