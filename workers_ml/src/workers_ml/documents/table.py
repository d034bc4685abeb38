"""The reader of CSV and TSV with a header; quoting as spreadsheets write it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from workers_ml.documents.document import MAX_TEXT, Fields, Malformed, Row, row_of
from workers_ml.documents.errors import DocumentsUnreadable
from workers_ml.documents.lines import lines_of

TOO_LONG = "\ud800"
"""Replaces a line over the limit: invalid Unicode, so that its row is malformed, quoted or not."""


def read_csv(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    return _read(path, name, fields, ",")


def read_tsv(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    return _read(path, name, fields, "\t")


def _read(path: Path, name: str, fields: Fields, delimiter: str) -> Iterator[Row]:
    """A quote that is never closed takes in lines only until its field is too long."""
    csv.field_size_limit(MAX_TEXT)
    records = csv.reader(_text_lines(path), delimiter=delimiter, strict=True)
    header = _header(path, records, fields)
    while True:
        line = records.line_num + 1
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield Malformed(name, line, str(error))
            continue
        if not record:
            continue
        if len(record) != len(header):
            yield Malformed(name, line, f"{len(record)} fields, the header has {len(header)}")
            continue
        yield row_of(name, line, dict(zip(header, record, strict=True)), fields)


def _header(path: Path, records: Iterator[list[str]], fields: Fields) -> list[str]:
    try:
        header = next(records, [])
    except csv.Error as error:
        raise DocumentsUnreadable(str(path), f"its header: {error}") from None
    for needed in (fields.id, fields.text):
        if needed not in header:
            there = ", ".join(repr(column[:60]) for column in header[:20]) or "none"
            raise DocumentsUnreadable(str(path), f"no column {needed!r}; its columns: {there}")
    return header


def _text_lines(path: Path) -> Iterator[str]:
    """Invalid bytes become lone surrogates, which make only their own row malformed."""
    for _, line in lines_of(path):
        yield f"{TOO_LONG}\n" if line is None else line.decode("utf-8", "surrogateescape")
