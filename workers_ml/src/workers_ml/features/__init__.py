"""
Features of texts: hashed words and pairs of words, counted.

    rows = count_features(["a text", "another"])    # what an index keeps of its documents
    weighting = fit_weighting(rows, min_df=2)       # which features count, and how much
    matrix = weighting.weigh(rows)                  # float32 CSR, a unit vector a document
"""

from workers_ml.features.batches import batches_of
from workers_ml.features.hashing import FEATURES, HASH_BITS, count_features
from workers_ml.features.rows import FeatureRows, join_rows
from workers_ml.features.weighting import Weighting, fit_weighting

__all__ = [
    "FEATURES",
    "HASH_BITS",
    "FeatureRows",
    "Weighting",
    "batches_of",
    "count_features",
    "fit_weighting",
    "join_rows",
]
