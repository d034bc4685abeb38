"""Documents in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workers_ml.documents import Document

BATCH_DOCUMENTS = 2048
BATCH_CHARACTERS = 1 << 20


def batches_of(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Up to 2,048 documents or a million characters at a time, one document at least."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        if batch and (
            len(batch) >= BATCH_DOCUMENTS or characters + len(document.text) > BATCH_CHARACTERS
        ):
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document.text)
    if batch:
        yield batch
