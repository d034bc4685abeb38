"""The reader of JSONL: one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic_core import from_json

from workers_ml.documents.document import Fields, Malformed, Row, row_of
from workers_ml.documents.lines import MAX_LINE, lines_of


def read_json_lines(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    """Blank lines are skipped."""
    for number, line in lines_of(path):
        if line is None:
            yield Malformed(name, number, f"over {MAX_LINE:,} bytes")
        elif not line.isspace():
            yield _row(name, number, line, fields)


def _row(name: str, number: int, line: bytes, fields: Fields) -> Row:
    try:
        values = from_json(line)  # it limits the depth, and accepts UTF-8 only
    except ValueError as error:
        return Malformed(name, number, f"not JSON: {error}")
    if not isinstance(values, dict):
        return Malformed(name, number, "not a JSON object")
    return row_of(name, number, values, fields)
