"""A classifier's arrays as a safetensors file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from workers_ml.classifier import TextClassifier
from workers_ml.features import HASH_BITS, Weighting
from workers_ml.models.description import Description
from workers_ml.models.errors import ModelRefused


def encode_weights(classifier: TextClassifier) -> bytes:
    """float16 weights: they changed no label where that was measured, and halve the file."""
    return bytes(
        save(
            {
                "features": classifier.weighting.features,
                "idf": classifier.weighting.idf,
                "weights": classifier.weights.astype(np.float16),
                "intercepts": classifier.intercepts,
            }
        )
    )


def decode_weights(key: str, content: bytes, description: Description) -> TextClassifier:
    """Raises `ModelRefused` unless it holds exactly the arrays that the description means."""
    try:
        arrays: dict[str, NDArray[Any]] = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelRefused(key, f"not a safetensors file of ours: {error}") from None
    features, classes = description.weights.features, len(description.classes)
    wanted = {
        "features": (np.uint32, (features,)),
        "idf": (np.float32, (features,)),
        "weights": (np.float16, (features, classes)),
        "intercepts": (np.float32, (classes,)),
    }
    if arrays.keys() != wanted.keys():
        raise ModelRefused(key, f"holds {sorted(arrays)}, wanted are {sorted(wanted)}")
    for name, (dtype, shape) in wanted.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            found = f"{array.dtype}{list(array.shape)}"
            raise ModelRefused(key, f"{name} is {found}, not {np.dtype(dtype)}{list(shape)}")
        if array.dtype != np.uint32 and not np.isfinite(array).all():
            raise ModelRefused(key, f"{name} has values that are no numbers")
    numbers = arrays["features"]
    if (numbers[1:] <= numbers[:-1]).any() or int(numbers[-1]) >> HASH_BITS:
        raise ModelRefused(key, "features does not ascend, or is over its range")
    return TextClassifier(
        classes=description.classes,
        weighting=Weighting(numbers, arrays["idf"]),
        weights=np.ascontiguousarray(arrays["weights"], dtype=np.float32),
        intercepts=arrays["intercepts"],
        temperature=description.temperature,
    )
