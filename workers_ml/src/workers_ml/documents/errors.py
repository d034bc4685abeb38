"""Errors of reading documents."""

from __future__ import annotations

from collections.abc import Sequence

from api_shared.errors import ApiWorkersError
from workers_ml.documents.document import Malformed

SHOWN = 5


class DocumentsUnreadable(ApiWorkersError):
    """A file is missing, damaged or of an unknown kind, so that not all of it can be read."""

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source!r} cannot be read: {reason}")


class TooManyMalformed(ApiWorkersError):
    """`examples` are the first malformed rows, at most 100."""

    def __init__(
        self, malformed: int, rows: int, max_share: float, examples: Sequence[Malformed]
    ) -> None:
        self.malformed = malformed
        self.rows = rows
        self.max_share = max_share
        self.examples = tuple(str(example) for example in examples)
        shown = "; ".join(self.examples[:SHOWN])
        super().__init__(
            f"{malformed:,} of {rows:,} rows are malformed, over max_malformed_share="
            f"{max_share:g}: {shown}{'; …' if malformed > SHOWN else ''}"
        )


class MissingExtra(ApiWorkersError):
    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{what} needs a package that is not installed: install workers-ml[{extra}]"
        )
