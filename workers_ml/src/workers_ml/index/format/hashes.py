"""Hashes of document ids and of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 16

Bytes = NDArray[np.uint8]
Starts = NDArray[np.int64]


def content_hash(text: str) -> bytes:
    """128 bits of BLAKE2b over the text in UTF-8; a lone surrogate counts as itself."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def id_keys_of(document_ids: Iterable[str]) -> NDArray[np.uint64]:
    """64 bits of each id, to search by. Two ids may share a key: the ids themselves decide."""
    digests = b"".join(
        hashlib.blake2b(document_id.encode(), digest_size=8).digest()
        for document_id in document_ids
    )
    return np.frombuffer(digests, "<u8")


def pack_texts(texts: Sequence[str]) -> tuple[Bytes, Starts]:
    """All texts in UTF-8, concatenated, and where each begins; the last start is the end."""
    encoded = [text.encode() for text in texts]
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=starts[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), starts


def unpack_text(packed: Bytes, starts: Starts, row: int) -> str:
    return packed[starts[row] : starts[row + 1]].tobytes().decode()
