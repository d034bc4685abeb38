"""From rows to documents: the malformed counted, and refused where they are too many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from workers_ml.documents.document import Document, Malformed, Row
from workers_ml.documents.errors import TooManyMalformed

MAX_EXAMPLES = 100


@dataclass(slots=True)
class Tally:
    """What was read so far. `examples` are the first malformed rows, at most 100."""

    documents: int = 0
    malformed: int = 0
    examples: list[Malformed] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.documents + self.malformed

    def note(self, malformed: Malformed) -> None:
        self.malformed += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(malformed)


def well_formed(
    rows: Iterable[Row], tally: Tally, *, max_malformed_share: float = 0.01
) -> Iterator[Document]:
    """
    The documents of `rows`, each id once: the first wins, one that comes again is malformed.

    Counts into `tally`. At the end raises `TooManyMalformed` where the malformed are more than
    their share of all rows, or all there is. Remembers a digest an id: about 90 bytes a document.
    """
    seen: set[bytes] = set()
    for row in rows:
        if isinstance(row, Malformed):
            tally.note(row)
            continue
        digest = hashlib.blake2b(row.id.encode(), digest_size=16).digest()
        if digest in seen:
            reason = f"the id {row.id!r} came before: the first one counts"
            tally.note(Malformed(row.source, row.line, reason))
            continue
        seen.add(digest)
        tally.documents += 1
        yield row
    if tally.malformed > max_malformed_share * tally.rows or (
        tally.malformed and not tally.documents
    ):
        raise TooManyMalformed(tally.malformed, tally.rows, max_malformed_share, tally.examples)
