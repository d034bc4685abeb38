"""The well-formed documents among rows; malformed rows are counted, and refused if too many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from workers_ml.documents.document import Document, Malformed, Row
from workers_ml.documents.errors import TooManyMalformed

MAX_EXAMPLES = 100


@dataclass(slots=True)
class RowCounts:
    """The rows read so far. `examples` are the first malformed rows, at most 100."""

    documents: int = 0
    malformed: int = 0
    examples: list[Malformed] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.documents + self.malformed

    def add_malformed(self, malformed: Malformed) -> None:
        self.malformed += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(malformed)


def well_formed(
    rows: Iterable[Row], counts: RowCounts, *, max_malformed_share: float = 0.01
) -> Iterator[Document]:
    """
    The documents of `rows`, each id once: the first one counts, a repeated one is malformed.

    Updates `counts`. At the end raises `TooManyMalformed` if the share of malformed rows is over
    the limit, or if all rows are malformed. Keeps a digest of each id: about 90 bytes a document.
    """
    seen: set[bytes] = set()
    for row in rows:
        if isinstance(row, Malformed):
            counts.add_malformed(row)
            continue
        digest = hashlib.blake2b(row.id.encode(), digest_size=16).digest()
        if digest in seen:
            reason = f"the id {row.id!r} is repeated: the first one counts"
            counts.add_malformed(Malformed(row.source, row.line, reason))
            continue
        seen.add(digest)
        counts.documents += 1
        yield row
    if counts.malformed > max_malformed_share * counts.rows or (
        counts.malformed and not counts.documents
    ):
        raise TooManyMalformed(counts.malformed, counts.rows, max_malformed_share, counts.examples)
