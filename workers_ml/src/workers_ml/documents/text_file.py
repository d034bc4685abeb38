"""The reader of text files: one document each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from workers_ml.documents.document import Fields, Malformed, Row, row_of
from workers_ml.documents.errors import DocumentsUnreadable
from workers_ml.documents.lines import BOM, MAX_LINE, open_bytes, reason_of


def read_text_file(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    try:
        with open_bytes(path) as file:
            data = file.read(MAX_LINE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentsUnreadable(str(path), reason_of(error)) from None
    if len(data) > MAX_LINE:
        yield Malformed(name, 0, f"over {MAX_LINE:,} bytes")
        return
    text = data.removeprefix(BOM).decode("utf-8", "surrogateescape")
    yield row_of(name, 0, {fields.id: name.removesuffix(".gz"), fields.text: text}, fields)
