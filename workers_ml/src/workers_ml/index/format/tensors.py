"""
Arrays of a safetensors file, as views on its bytes: nothing is copied, so a mapped file stays on
disk until it is read.

The format: eight bytes (little-endian length of the header), a JSON header, the arrays' bytes. See
https://github.com/huggingface/safetensors#format. The header is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers_ml.index.errors import BrokenIndex

MAX_HEADER_BYTES = 64 * 1024

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I64": "<i8"}.items()
}

Shapes = Mapping[str, tuple[str, int]]
"""The type of each array, as safetensors names it, and its number of dimensions."""


def arrays_in(file: str, content: memoryview, shapes: Shapes) -> dict[str, NDArray[Any]]:
    """
    The arrays that `shapes` names; `file` is named in errors.

    Raises `BrokenIndex` unless the content is exactly these arrays, one after the other.
    """
    header, start = _header(file, content)
    header.pop("__metadata__", None)
    if header.keys() != shapes.keys():
        raise BrokenIndex(file, f"expected the arrays {sorted(shapes)}, got {sorted(header)}")
    arrays: dict[str, NDArray[Any]] = {}
    covered: list[tuple[int, int]] = []
    for name, (type_name, dimensions) in shapes.items():
        shape, begin, end = _extent(file, name, header[name], type_name, dimensions)
        if start + end > len(content):
            raise BrokenIndex(file, f"{name} ends after the end of the file, which is truncated")
        dtype = DTYPES[type_name]
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if count * dtype.itemsize != end - begin:
            raise BrokenIndex(file, f"{name} of shape {list(shape)} is not {end - begin} bytes")
        flat = np.frombuffer(content[start + begin : start + end], dtype)
        arrays[name] = flat.reshape(shape)
        covered.append((begin, end))
    _check_covered(file, covered, len(content) - start)
    return arrays


def _header(file: str, content: memoryview) -> tuple[dict[str, Any], int]:
    if len(content) < 8:
        raise BrokenIndex(file, f"is {len(content)} bytes: too short for a header")
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES or 8 + length > len(content):
        raise BrokenIndex(file, f"a header cannot be {length} bytes long")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
    except (ValueError, RecursionError):
        raise BrokenIndex(file, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise BrokenIndex(file, "its header is not a JSON object")
    return header, 8 + length


def _extent(
    file: str, name: str, entry: Any, type_name: str, dimensions: int
) -> tuple[tuple[int, ...], int, int]:
    """The shape of an array, its first byte and its end."""
    if not isinstance(entry, dict) or entry.get("dtype") != type_name:
        raise BrokenIndex(file, f"{name} is not of type {type_name}")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not _are_sizes(shape, dimensions):
        raise BrokenIndex(file, f"{name} has no shape of {dimensions} dimensions")
    if not _are_sizes(offsets, 2) or offsets[0] > offsets[1]:
        raise BrokenIndex(file, f"{name} has no offsets")
    return tuple(shape), offsets[0], offsets[1]


def _are_sizes(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(size) is int and 0 <= size < 2**48 for size in value)
    )


def _check_covered(file: str, extents: list[tuple[int, int]], size: int) -> None:
    end = 0
    for begin, next_end in sorted(extents):
        if begin != end:
            raise BrokenIndex(file, f"its arrays overlap or leave a gap at byte {min(begin, end)}")
        end = next_end
    if end != size:
        raise BrokenIndex(file, f"{size - end} bytes belong to no array")
