"""The arrays of a classifier as a safetensors file."""

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
    """The weights as float16: no label changed where that was measured, and it halves the file."""
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
    """Raises `ModelRefused` unless the file has exactly the arrays that the description names."""
    try:
        arrays: dict[str, NDArray[Any]] = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelRefused(key, f"not a safetensors file of a model: {error}") from None
    features, classes = description.weights.features, len(description.classes)
    expected = {
        "features": (np.uint32, (features,)),
        "idf": (np.float32, (features,)),
        "weights": (np.float16, (features, classes)),
        "intercepts": (np.float32, (classes,)),
    }
    if arrays.keys() != expected.keys():
        raise ModelRefused(key, f"expected the arrays {sorted(expected)}, got {sorted(arrays)}")
    for name, (dtype, shape) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            found = f"{array.dtype}{list(array.shape)}"
            raise ModelRefused(key, f"{name}: expected {np.dtype(dtype)}{list(shape)}, got {found}")
        if array.dtype != np.uint32 and not np.isfinite(array).all():
            raise ModelRefused(key, f"{name} has values that are not finite")
    numbers = arrays["features"]
    if (numbers[1:] <= numbers[:-1]).any() or int(numbers[-1]) >> HASH_BITS:
        raise ModelRefused(key, "features does not ascend, or exceeds its range")
    return TextClassifier(
        classes=description.classes,
        weighting=Weighting(numbers, arrays["idf"]),
        weights=np.ascontiguousarray(arrays["weights"], dtype=np.float32),
        intercepts=arrays["intercepts"],
        temperature=description.temperature,
    )
